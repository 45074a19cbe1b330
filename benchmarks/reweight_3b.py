"""What putting anchors together anew needs at 3B size: `python -m benchmarks.reweight_3b`.

An evaluation of the loss and its gradient by the cores (`distillation.reweight`) is compiled at
the true shapes of a model, for `--compile_for` (see BUILD.md; by default for this machine's CPU);
no weight is made. Prints a Markdown row for each number of adapters fitted together: bytes by XLA's
own account, the operations of an evaluation as `operations` counts them beside XLA's count of the
same program with one layer and few words (XLA counts a loop once), and the seconds that the rung's
evaluations, those of the check included, would take at `--flops` operations a second. In bfloat16
XLA on CPUs makes float32 copies of what goes into products, which no accelerator does.
"""

import argparse
import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import Mesh

from lorajax import sharding
from lorajax.distillation.reweight import (
    DEFAULTS,
    Directions,
    Problem,
    evaluate,
    keeps_activations,
)
from lorajax.experiment import programs, targets
from lorajax.experiment.config import Experiment
from lorajax.models import ModelConfig
from lorajax.models import config as config_lib
from lorajax.tasks.batching import Batch
from tests.models import shapes

RANK = 16  # of the start


def compiled(base: programs.Base, adapters: int, rows: int, length: int) -> programs.Compiled:
    """Compiles one evaluation for answers that fill half of their rows."""
    depth, width = base.config.num_layers, DEFAULTS.directions

    def floats(*shape: int) -> jax.ShapeDtypeStruct:
        return programs.array(base, shape, jnp.float32)

    def ints(*shape: int) -> jax.ShapeDtypeStruct:
        return programs.array(base, shape, jnp.int32)

    start = programs.stacked_adapters(base, adapters)
    factors = {}
    for name in start['layers']:
        fan_in, fan_out = base.config.projections[name]
        factors[name] = {'a': floats(depth, fan_in, width), 'b': floats(depth, width, fan_out)}
    spread = {name: floats(depth, width, width) for name in factors}
    cores = {name: floats(adapters, depth, width, width) for name in factors}
    batch = Batch(
        ints(adapters, rows, length), ints(adapters, rows, length),
        ints(adapters, rows, length // 2), floats(adapters, rows, length // 2),
    )  # fmt: skip
    problem = Problem(start, batch, floats(adapters))
    module = keeps_activations(base.module, adapters * rows * length)
    return evaluate.lower(
        module,
        base.params,
        Directions({'layers': factors}, spread),
        cores,
        problem,
        DEFAULTS.penalty,
    ).compile()


def operations(config: ModelConfig, rank: int, rows: int, length: int, is_kept: bool) -> float:
    """Returns the multiplications and additions of an evaluation for one adapter.

    The base is multiplied with in the forward pass, for the gradient of activations and, unless
    they are kept, for activations once more. So is the adapter of rank `rank`; of its factors only
    `b`, which holds the cores, has a gradient. Answers are unembedded at half of the positions,
    and their gradient is made at once. Attention is left out: at these lengths it is a hundredth.
    """
    widths, tokens = config.projections.values(), rows * length
    passes = 2 if is_kept else 3
    layer = sum(
        passes * (fan_in * fan_out + rank * (fan_in + fan_out)) + rank * fan_out
        for fan_in, fan_out in widths
    )
    words = config.embed_dim * config.vocab_size / 2
    return 2.0 * tokens * (layer * config.num_layers + 2 * words)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--model', default='Llama-3.2-3B')
    parser.add_argument('--adapters', default='1,2,4')
    parser.add_argument('--rows', type=int, default=8)
    parser.add_argument('--length', type=int, default=256)
    parser.add_argument('--dtype', default='bfloat16')
    parser.add_argument('--flops', type=float, default=3e14, help='of an accelerator, a second')
    parser.add_argument('--compile_for', help='an accelerator, such as h100')
    args = parser.parse_args()
    logging.set_verbosity(logging.INFO)
    config = config_lib.from_hf(shapes.REAL[args.model])
    experiment = Experiment(
        lora_rank=RANK, lora_alpha=2.0 * RANK, mesh=(1, 1, 1), param_dtype=args.dtype,
        dtype=args.dtype, remat='full',
    )  # fmt: skip
    devices = targets.devices(args.compile_for) if args.compile_for else None
    mesh = sharding.make_mesh(experiment.mesh, devices)

    def made(config: ModelConfig, mesh: Mesh, adapters: int) -> programs.Compiled:
        base = programs.make_base(experiment, config, mesh)
        return compiled(base, adapters, args.rows, args.length)

    print('| model | compiled for | dtype | adapters | rows | tokens a row | GiB '
          '| of it arguments | TFLOP an evaluation and adapter | XLA / ours, one layer '
          '| s an adapter | adapters a minute |')  # fmt: skip
    print('| --- | --- | --- |' + ' ---: |' * 9)
    for adapters in map(int, args.adapters.split(',')):
        program = made(config, mesh, adapters)
        account = program.memory_analysis()
        total = programs.Program('reweighting', program).device_bytes
        logging.info('%d adapters: %s', adapters, account)
        shape = RANK + DEFAULTS.directions, args.rows, args.length
        module = programs.make_base(experiment, config, mesh).module
        is_kept = keeps_activations(module, adapters * args.rows * args.length).remat == 'none'
        flops = operations(config, *shape, is_kept)
        # On a CPU, as compilers of GPUs do not count; few words, as XLA counts a loop once.
        shallow = dataclasses.replace(config, num_layers=1, vocab_size=1024)
        counted: Any = made(shallow, sharding.make_mesh(experiment.mesh), adapters).cost_analysis()
        share = counted['flops'] / adapters / operations(shallow, *shape, is_kept)
        seconds = (DEFAULTS.steps + DEFAULTS.more_steps) * flops / args.flops
        cells = [
            args.model, args.compile_for or 'CPU', args.dtype, adapters, args.rows,
            args.length, f'{total / 2**30:.1f}',
            f'{account.argument_size_in_bytes / 2**30:.1f}', f'{flops / 1e12:.1f}',
            f'{share:.2f}', f'{seconds:.1f}', f'{60 / seconds:.1f}',
        ]  # fmt: skip
        print('| ' + ' | '.join(map(str, cells)) + ' |')
        sys.stdout.flush()


if __name__ == '__main__':
    main()
