"""Bytes and collectives of a flagfile's compiled programs, beside what `doctor` says.

    python -m benchmarks.memory [NAME ...] [--models=Qwen2.5-3B,Llama-3.2-3B] [--dtype=float32]

NAME is a file launch/NAME.flags. The training step, the pass over prompts and a step of decoding
are compiled for its mesh at the true shapes of the models, for CPUs that XLA is told to see; no
weight is made. Every flagfile has a process of its own, as the number of devices is fixed when JAX
starts; it takes a minute on two cores.

The first table has GiB per device. `compiled` is XLA's own account: arguments, temporaries and
results that are not donated. `doctor` is lorajax.experiment.memory. XLA on CPUs makes float32
copies of what goes into bfloat16 products, which no accelerator does; so what can be compared is
`--dtype=float32`, and the arithmetic is the same.

The second has the collectives of one step: kind, dtype, how often (those of a layer count as often
as there are layers), and the MB that a device sends, as a ring sends them. In bfloat16 the CPU sums
in float32, so an accelerator sends half of those bytes.
"""

import math
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import app, flags

if TYPE_CHECKING:
    from lorajax.experiment.config import Experiment
    from lorajax.models import ModelConfig

NAMES = ('gpu_24gb', 'gpu_80gb', 'gpu_8x80gb', 'tpu_v5e8', 'tpu_v6e8', 'tpu_v5e32')
KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4, 'f32': 4, 'f64': 8}
_ROOT = pathlib.Path(__file__).resolve().parent.parent
_BLOCK = 128  # tokens, of rows of several long examples


class Collective(NamedTuple):
    """One kind of collective in a program.

    Attributes:
      kind: of `KINDS`.
      dtype: of what is sent.
      count: how often it runs.
      sent: bytes that a device sends in all of them.
    """

    kind: str
    dtype: str
    count: int
    sent: float


def collectives(hlo: str) -> list[Collective]:
    """Returns the collectives of a compiled program's text, kinds and dtypes together.

    What stands in the body of a loop counts as often as the loop runs, once where the program does
    not know how often that is.
    """
    bodies = _computations(hlo)
    times = _times(bodies)
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for name, lines in bodies.items():
        for line in lines:
            match = re.search(r'= (.+?) (' + '|'.join(KINDS) + r')(-start)?\(', line)
            if not match or not times[name]:
                continue
            result, kind = match[1], match[2]
            shapes = re.findall(r'\b(' + '|'.join(_BYTES) + r')\[([\d,]*)\]', result)
            if match[3]:  # of an asynchronous one: operands, then results
                shapes = shapes[len(shapes) // 2 :]
            size = sum(
                _BYTES[d] * math.prod(map(int, filter(None, s.split(',')))) for d, s in shapes
            )
            count, total = found.get((kind, shapes[0][0]), (0, 0.0))
            sent = _sent(kind, size, _group_size(line))
            found[kind, shapes[0][0]] = count + times[name], total + times[name] * sent
    return [Collective(*key, *value) for key, value in sorted(found.items())]


def _computations(hlo: str) -> dict[str, list[str]]:
    """Returns the lines of every computation by name; that of the program is called ENTRY."""
    bodies: dict[str, list[str]] = {}
    name = ''
    for line in hlo.splitlines():
        head = re.match(r'(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$', line)
        if head:
            name = 'ENTRY' if head[1] else head[2]
            bodies[name] = []
        elif name and line.startswith(' '):
            bodies[name].append(line)
    return bodies


def _times(bodies: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Returns how often each computation runs in one run of the program."""
    callers: dict[str, list[tuple[str, int]]] = {name: [] for name in bodies}
    for name, lines in bodies.items():
        for line in lines:
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', line)
            for called in re.findall(r'(?:body|condition|calls|to_apply)=%?([\w.-]+)', line):
                if called in callers:
                    callers[called].append((name, int(trips[1]) if trips else 1))
    times: dict[str, int] = {'ENTRY': 1}

    def of(name: str) -> int:
        if name not in times:
            times[name] = sum(of(caller) * count for caller, count in callers[name])
        return times[name]

    return {name: of(name) for name in bodies}


def _group_size(line: str) -> int:
    """Returns how many devices take part in one collective."""
    groups = line.split('replica_groups=')[-1]
    named = re.match(r'mesh\[(.*?)\] ?\{(.*?)\}', groups)
    if named:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    iota = re.match(r'\[(\d+),(\d+)\]', groups)
    if iota:
        return int(iota[2])
    listed = re.match(r'\{\{([\d,]*)\}', groups)
    return len(listed[1].split(',')) if listed else 1


def _sent(kind: str, size: int, devices: int) -> float:
    """Returns the bytes that a device of a ring sends for a result of `size` bytes."""
    share = (devices - 1) / devices
    return {
        'all-gather': share * size,
        'all-reduce': 2 * share * size,
        'reduce-scatter': (devices - 1) * size,
        'all-to-all': share * size,
        'collective-permute': size,
    }[kind]


class Structs:
    """Arrays without content, of the shapes and shardings that a flagfile's programs get."""

    def __init__(self, experiment: 'Experiment', config: 'ModelConfig') -> None:
        """Prepares the base of a model."""
        import jax
        import jax.numpy as jnp

        from lorajax import sharding
        from lorajax.models import quantized
        from lorajax.models.hf import checkpoint
        from lorajax.models.hf import names as hf_names
        from lorajax.models.model import param_shardings
        from lorajax.models.transformer import Transformer

        self.experiment, self.config = experiment, config
        self.mesh = sharding.make_mesh(experiment.mesh)
        param_dtype = jnp.dtype(experiment.param_dtype)
        self.module = Transformer(
            config, param_dtype, jnp.dtype(experiment.dtype), experiment.remat,
            mesh=self.mesh if self.mesh.size > 1 else None,
        )  # fmt: skip
        where = param_shardings(self.mesh, config)
        shapes = hf_names.shapes(config)
        leaves = {path: self.make(shapes[path], param_dtype, where[path]) for path in shapes}
        if experiment.quantize == quantized.INT8:
            for path in [path for path in shapes if path.endswith('_proj/kernel')]:
                leaves[path] = self.make(shapes[path], jnp.int8, where[path])
                scale = jax.sharding.NamedSharding(
                    self.mesh, jax.sharding.PartitionSpec(*where[path].spec[:2])
                )
                leaves[path.replace('kernel', quantized.SCALE)] = self.make(
                    shapes[path][:2], jnp.float32, scale
                )
        self.params = checkpoint.unflatten(leaves)

    def make(self, shape: tuple[int, ...], dtype: Any, where: Any = None) -> Any:
        """Returns one array, replicated unless it is said where it lies."""
        import jax

        from lorajax import sharding

        where = where or sharding.sharding(self.mesh)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

    def placed(self, arrays: Any, where: Any) -> Any:
        """Returns a tree of arrays as a compiled program leaves them."""
        import jax

        return jax.tree.map(lambda x, at: self.make(x.shape, x.dtype, at), arrays, where)

    def adapters(self, count: int) -> Any:
        """Returns adapters stacked on A."""
        import jax.numpy as jnp

        from lorajax.training.state import adapter_shardings

        recipe, layers = self.experiment.train_config, {}
        for name, at in adapter_shardings(self.mesh, self.config, recipe.targets)['layers'].items():
            fan_in, fan_out = self.config.projections[name]
            whole = (count, self.config.num_layers)
            layers[name] = {
                'a': self.make((*whole, fan_in, recipe.rank), jnp.float32, at['a']),
                'b': self.make((*whole, recipe.rank, fan_out), jnp.float32, at['b']),
            }
        return {'layers': layers}


def training_step(structs: Structs) -> Any:
    """Compiles a training step in one piece, in which every example is as long as it may be."""
    import jax
    import jax.numpy as jnp

    from lorajax import sharding
    from lorajax.models.attention import Blocking
    from lorajax.training.optimizer import make_optimizer
    from lorajax.training.packing import Pack
    from lorajax.training.state import TrainState, state_shardings
    from lorajax.training.step import make_train_step

    experiment, recipe, mesh = structs.experiment, structs.experiment.train_config, structs.mesh
    optimizer = make_optimizer(recipe)
    count = experiment.adapters_per_step or len(experiment.tasks)
    adapters = structs.adapters(count)
    state = structs.placed(
        TrainState(adapters, jax.eval_shape(jax.vmap(optimizer.init), adapters)),
        state_shardings(mesh, structs.config, optimizer, recipe.targets),
    )
    rows = sharding.pad_rows(mesh, 1)
    tokens = -(-count * experiment.batch_size // rows) * experiment.max_len
    where = sharding.sharding(mesh, 'batch', None)

    def row(length: int, dtype: Any) -> Any:
        return structs.make((rows, length), dtype, where)

    pack = Pack(
        row(tokens, jnp.int32), row(tokens, jnp.int32), row(tokens // 2, jnp.int32),
        row(tokens // 2, jnp.float32), row(tokens // _BLOCK, jnp.int32),
    )  # fmt: skip
    step = make_train_step(structs.module, mesh, optimizer, recipe.targets)
    rates, scale = structs.make((count,), jnp.float32), structs.make((), jnp.float32)
    blocking = Blocking(_BLOCK, -(-(experiment.max_len - 1) // _BLOCK))
    return step.lower(structs.params, state, pack, rates, scale, blocking, 1).compile()


def decoding_steps(structs: Structs, adapters: int) -> tuple[Any, Any]:
    """Compiles the pass over prompts and the decoding that begins with its result."""
    import jax
    import jax.numpy as jnp

    from lorajax import sharding
    from lorajax.models import decoding
    from lorajax.models import prompts as prompts_lib
    from lorajax.models.sampling import Greedy
    from lorajax.tasks.batching import bucket

    experiment, mesh = structs.experiment, structs.mesh
    shape = (adapters, sharding.pad_rows(mesh, experiment.eval_batch_size))
    where = sharding.sharding(mesh, None, 'batch', None)
    prompts = structs.make((*shape, bucket(experiment.max_len)), jnp.int32, where)
    given, stops = structs.adapters(adapters), structs.make((1,), jnp.int32)
    lowered = prompts_lib._read_prompts.lower(
        structs.module, structs.params, given, prompts, prompts, rows=shape[1], in_pieces=False
    )
    reading = lowered.compile()
    read = structs.placed(lowered.out_info, reading.output_shardings)
    rows = sharding.sharding(mesh, None, 'batch')
    keys = jax.eval_shape(
        lambda: jnp.broadcast_to(jax.random.key_data(jax.random.key(0)), (*shape, 2))
    )
    length = experiment.max_new_tokens or experiment.max_len
    options: dict[str, Any] = {'pad_id': 0, 'sampler': Greedy()}
    # Layers stay together, as on accelerators.
    first = decoding.begin.lower(
        structs.params, read, structs.make(keys.shape, keys.dtype, where),
        structs.make(shape, jnp.bool_, rows), stops, max_new_tokens=length, num_slots=length,
        split=False, **options,
    )  # fmt: skip
    begun = structs.placed(first.out_info, first.compile().output_shardings)
    loop = decoding.decode.lower(
        structs.module, structs.params, given, begun, stops,
        structs.make((adapters,), jnp.int32), **options,
    )  # fmt: skip
    return reading, loop.compile()


def device_bytes(compiled: Any) -> int:
    """Returns XLA's account of what a program needs on one device."""
    account = compiled.memory_analysis()
    results = account.output_size_in_bytes - account.alias_size_in_bytes
    return account.argument_size_in_bytes + account.temp_size_in_bytes + results


def one(name: str, model: str) -> None:
    """Compiles the programs of one flagfile and one model, and prints their rows."""
    from lorajax import sharding
    from lorajax.experiment import memory, methods
    from lorajax.models import config as config_lib
    from tests.models import shapes

    experiment = _experiment(name)
    config = config_lib.from_hf(shapes.REAL[model])
    structs = Structs(experiment, config)
    trained = experiment.adapters_per_step or len(experiment.tasks)
    decoded = experiment.adapters_per_step or len(methods.predicted(experiment)) + 2
    common: dict[str, Any] = {
        'mesh': experiment.mesh, 'rank': experiment.lora_rank, 'targets': experiment.lora_targets,
        'max_len': experiment.max_len, 'param_dtype': experiment.param_dtype,
        'dtype': experiment.dtype, 'quantize': experiment.quantize,
    }  # fmt: skip
    training = memory.training_bytes(
        config, adapters=trained, batch_size=experiment.batch_size, remat=experiment.remat, **common
    )
    decoding = memory.decoding_bytes(
        config, adapters=decoded, batch_size=experiment.eval_batch_size,
        max_new_tokens=experiment.max_new_tokens or experiment.max_len, **common,
    )  # fmt: skip
    prompts, loop = decoding_steps(structs, decoded)
    programs = {'training': training_step(structs), 'prompts': prompts, 'decoding': loop}
    # The cache is not there yet where the first prompts are read, and these are read before it.
    estimates = {
        'training': sum(training.values()),
        'prompts': sum(decoding.values()) - decoding['cache'],
        'decoding': sum(decoding.values()) - decoding['prompts'],
    }
    setting = f'{name} | {model} | {sharding.mesh_text(structs.mesh)}'
    for label, compiled in programs.items():
        actual, estimate = device_bytes(compiled), estimates[label]
        print(
            f'bytes | {setting} | {label} | {actual / 2**30:.2f} | {estimate / 2**30:.2f} | '
            f'{estimate / actual - 1:+.1%} |'
        )
    for label, compiled in programs.items():
        for found in collectives(compiled.as_text()):
            print(
                f'sent | {setting} | {label} | {found.kind} | {found.dtype} | {found.count} | '
                f'{found.sent / 1e6:,.2f} |'
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
    for name in argv[1:] or NAMES:
        devices = math.prod(_experiment(name).mesh)
        environment = {
            **os.environ,
            'JAX_PLATFORMS': 'cpu',
            'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
        }
        for model in args.models:
            command = [sys.executable, '-m', 'benchmarks.memory', f'--one={name},{model}']
            command += [f'--dtype={args.dtype}'] * bool(args.dtype)
            command += [f'--mesh={args.mesh}'] * bool(args.mesh)
            command += [f'--quantize={args.quantize}'] * bool(args.quantize)
            done = subprocess.run(
                command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            for line in done.stdout.splitlines():
                table, _, row = line.partition(' ')
                rows[table].append(row)
                print(line, file=sys.stderr, flush=True)
    print('| flagfile | model | mesh | program | compiled | doctor | |')
    print('| --- | --- | --- | --- | ---: | ---: | ---: |')
    print('\n'.join(rows['bytes']))
    print('\n| flagfile | model | mesh | program | collective | dtype | times | MB sent |')
    print('| --- | --- | --- | --- | --- | --- | ---: | ---: |')
    print('\n'.join(rows['sent']))


if __name__ == '__main__':
    flags.DEFINE_list('models', ['Qwen2.5-3B', 'Llama-3.2-3B'], 'names of tests.models.shapes.REAL')
    flags.DEFINE_string('dtype', None, 'instead of the precision of the flagfile')
    flags.DEFINE_string('quantize', None, 'instead of the kind of weights of the flagfile')
    flags.DEFINE_string('mesh', None, 'instead of the mesh of the flagfile')
    flags.DEFINE_list('one', None, 'compile this flagfile and model here')
    app.run(main)
