"""Bytes and collectives of a flagfile's compiled programs, beside what `doctor` says.

    python -m benchmarks.memory [NAME ...] --compilers=DIR [--models=Qwen2.5-3B,Llama-3.2-3B]

NAME is a file launch/NAME.flags. The training step, the pass over prompts and a step of decoding
are compiled for its mesh at the true shapes of the models, for the accelerator that it is for; no
weight is made and no accelerator is needed. DIR holds the accelerators' compilers (see BUILD.md).
Every flagfile has a process of its own; each takes some minutes on two cores.

Without `--compilers` they are compiled for CPUs that XLA is told to see. XLA on CPUs makes float32
copies of what goes into bfloat16 products, which no accelerator does; so what can be compared then
is `--dtype=float32`, and in bfloat16 the CPU sums in float32, which doubles what is sent.

The first table has GiB per device. `compiled` is XLA's own account: arguments, temporaries and
results that are not donated. `doctor` is lorajax.experiment.memory. The second has the collectives
of one step: kind, dtype, how often (those of a layer count as often as there are layers), and the
MB that a device sends, as a ring sends them.
"""

import math
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import app, flags

from benchmarks.collectives import collectives

if TYPE_CHECKING:
    from lorajax.experiment.config import Experiment

# The accelerators of the flagfiles; of several hosts' work, those of one.
TARGETS = {
    'gpu_24gb': 'rtx4090',
    'gpu_80gb': 'h100',
    'gpu_8x80gb': 'h100-8',
    'tpu_v5e8': 'v5e-8',
    'tpu_v6e8': 'v6e-8',
    'tpu_v5e32': 'v5e-4',
}
_PASSED = ('dtype', 'mesh', 'quantize', 'attention', 'compilers')
_ROOT = pathlib.Path(__file__).resolve().parent.parent


def one(name: str, model: str) -> None:
    """Compiles the programs of one flagfile and one model, and prints their rows."""
    from lorajax import sharding
    from lorajax.experiment import memory, methods, programs, targets
    from lorajax.models import config as config_lib
    from tests.models import shapes

    experiment = _experiment(name)
    config = config_lib.from_hf(shapes.REAL[model])
    devices = limit = None
    if flags.FLAGS.compilers:
        devices, limit = targets.devices(TARGETS[name]), targets.look_up(TARGETS[name]).memory
    mesh = sharding.make_mesh(experiment.mesh, devices)
    base = programs.make_base(experiment, config, mesh, flags.FLAGS.attention)
    trained = experiment.adapters_per_step or len(experiment.tasks)
    decoded = experiment.adapters_per_step or len(methods.predicted(experiment)) + 2
    training = memory.training_bytes(experiment, config, trained, base.module.attention)
    decoding = memory.decoding_bytes(experiment, config, decoded)
    apart = memory.layers_apart(experiment, config, list(mesh.devices.flat), limit)
    compiled = list(programs.compile_all(base, trained, decoded, limit))
    # The cache is not there yet where the first prompts are read, and these are read before it.
    estimates = {
        'training': sum(training.values()),
        'prompts': sum(decoding.values()) - decoding['cache'],
        'decoding': sum(decoding.values()) - decoding['prompts'] + apart,
    }
    setting = f'{name} | {devices[0].device_kind if devices else "CPU"} | {model}'
    setting += f' | {sharding.mesh_text(mesh)} | {base.module.attention}'
    for program in compiled:
        actual, estimate = program.device_bytes, estimates[program.what]
        says = 'does not fit' if actual is None else f'{actual / 2**30:.2f}'
        error = '' if actual is None else f'{estimate / actual - 1:+.1%}'
        print(
            f'bytes | {setting} | {program.what} | {says} | {estimate / 2**30:.2f} | {error} |',
            flush=True,
        )
    for program in compiled:
        for found in collectives(program.compiled.as_text()) if program.compiled else ():
            print(
                f'sent | {setting} | {program.what} | {found.kind} | {found.dtype} | '
                f'{found.count} | {found.sent / 1e6:,.2f} |'
            )


def _experiment(name: str) -> 'Experiment':
    """Reads a flagfile, with what the command line changes."""
    from lorajax.commands import parse

    args, words = flags.FLAGS, []
    if args.dtype:
        words += [f'--param_dtype={args.dtype}', f'--dtype={args.dtype}']
    words += [f'--mesh={args.mesh}'] * bool(args.mesh)
    words += [f'--quantize={args.quantize}'] * bool(args.quantize)
    return parse.parse(['run', f'--flagfile=launch/{name}.flags', *words]).experiment


def main(argv: Sequence[str]) -> None:
    """Runs every flagfile in a process of its own and prints both tables."""
    args = flags.FLAGS
    if args.one:
        one(*args.one)
        return
    rows: dict[str, list[str]] = {'bytes': [], 'sent': []}
    for name in argv[1:] or TARGETS:
        environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
        if args.compilers:
            environment['PYTHONPATH'] = args.compilers
        else:
            count = math.prod(_experiment(name).mesh)
            environment['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={count}'
        for model in args.models:
            command = [sys.executable, '-m', 'benchmarks.memory', f'--one={name},{model}']
            command += [f'--{flag}={args[flag].value}' for flag in _PASSED if args[flag].value]
            done = subprocess.run(
                command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            for line in done.stdout.splitlines():
                table, _, row = line.partition(' ')
                rows[table].append(row)
                print(line, file=sys.stderr, flush=True)
    head = '| flagfile | compiled for | model | mesh | attention | program |'
    print(f'{head} compiled | doctor | |')
    print('| --- | --- | --- | --- | --- | --- | ---: | ---: |')
    print('\n'.join(rows['bytes']))
    print(f'\n{head} collective | dtype | times | MB sent |')
    print('| --- | --- | --- | --- | --- | --- | --- | --- | ---: | ---: |')
    print('\n'.join(rows['sent']))


if __name__ == '__main__':
    flags.DEFINE_list('models', ['Qwen2.5-3B', 'Llama-3.2-3B'], 'names of tests.models.shapes.REAL')
    flags.DEFINE_string('compilers', None, 'where the compilers of accelerators are installed')
    flags.DEFINE_string('attention', 'auto', 'the kernel of training')
    flags.DEFINE_string('dtype', None, 'instead of the precision of the flagfile')
    flags.DEFINE_string('quantize', None, 'instead of the kind of weights of the flagfile')
    flags.DEFINE_string('mesh', None, 'instead of the mesh of the flagfile')
    flags.DEFINE_list('one', None, 'compile this flagfile and model here')
    app.run(main)
