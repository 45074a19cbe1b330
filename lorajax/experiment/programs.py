"""The programs of a run, compiled from shapes alone: no weight is made, no device need be here.

What XLA says of a compiled program is the only exact answer to the question whether it fits.
`targets` names devices to compile for.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from lorajax import sharding
from lorajax.experiment.config import Experiment
from lorajax.models import ModelConfig, decoding, prompts, quantized, step
from lorajax.models.attention import Blocking
from lorajax.models.hf import checkpoint
from lorajax.models.hf import names as hf_names
from lorajax.models.loading import make_module
from lorajax.models.placement import adapter_shardings, param_shardings
from lorajax.models.sampling import Greedy
from lorajax.models.transformer import Transformer
from lorajax.tasks.batching import bucket
from lorajax.training.optimizer import make_optimizer
from lorajax.training.packing import Pack
from lorajax.training.state import TrainState, state_shardings
from lorajax.training.step import make_train_step
from lorajax.types import Adapter, Params

Compiled = jax.stages.Compiled

_BLOCK = 128  # tokens, of rows of several long examples


class Base(NamedTuple):
    """A base model without weights, where a run would have it.

    Attributes:
      experiment: says how it is used.
      config: of the model.
      mesh: of the devices.
      module: the decoder.
      params: jax.ShapeDtypeStruct for every weight.
    """

    experiment: Experiment
    config: ModelConfig
    mesh: Mesh
    module: Transformer
    params: Params


def make_base(
    experiment: Experiment, config: ModelConfig, mesh: Mesh, attention: str = 'auto'
) -> Base:
    """Returns a base without weights.

    Args:
      experiment: says dtypes, remat and kind of weights.
      config: of the model.
      mesh: from `sharding.make_mesh`.
      attention: the kernel of training, see `models.kernels`.

    Raises:
      ArgumentError: if the devices of the mesh do not have the kernel.
    """
    module = make_module(
        config, experiment.param_dtype, experiment.dtype, mesh, experiment.remat, attention
    )
    where, shapes = param_shardings(mesh, config), hf_names.shapes(config)
    dtype = jnp.dtype(experiment.param_dtype)
    leaves = {
        path: jax.ShapeDtypeStruct(shapes[path], dtype, sharding=where[path]) for path in shapes
    }
    if experiment.quantize != quantized.NONE:
        for path in filter(quantized.is_quantized, shapes):
            (size, dtype), (of_scale, scale_dtype) = quantized.shapes_of(
                shapes[path], experiment.quantize
            )
            spec = where[path].spec
            leaves[path] = jax.ShapeDtypeStruct(
                size, dtype, sharding=quantized.placed(mesh, spec, size)
            )
            leaves[path.replace('kernel', quantized.SCALE)] = jax.ShapeDtypeStruct(
                of_scale, scale_dtype, sharding=quantized.placed(mesh, spec, of_scale)
            )
    return Base(experiment, config, mesh, module, checkpoint.unflatten(leaves))


def array(
    base: Base, shape: tuple[int, ...], dtype: DTypeLike, *axes: str | None
) -> jax.ShapeDtypeStruct:
    """Returns an array without content; without logical axes it is replicated."""
    where = sharding.sharding(base.mesh, *axes)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=where)


def stacked_adapters(base: Base, count: int) -> Adapter:
    """Returns adapters without content, float32, stacked on A = `count`."""
    recipe, layers = base.experiment.train_config, {}
    where = adapter_shardings(base.mesh, base.config, recipe.targets, count)['layers']
    for name, at in where.items():
        fan_in, fan_out = base.config.projections[name]
        a = (count, base.config.num_layers, fan_in, recipe.rank)
        b = (count, base.config.num_layers, recipe.rank, fan_out)
        layers[name] = {
            'a': jax.ShapeDtypeStruct(a, jnp.float32, sharding=at['a']),
            'b': jax.ShapeDtypeStruct(b, jnp.float32, sharding=at['b']),
        }
    return {'layers': layers}


class Program(NamedTuple):
    """A compiled program of a run.

    Attributes:
      what: it does.
      compiled: by XLA; None if it does not fit, which the compiler of TPUs says.
      beside: bytes on each device that the program does not see: the stacked layers, where
        decoding has them apart.
    """

    what: str
    compiled: Compiled | None
    beside: int = 0

    @property
    def device_bytes(self) -> int | None:
        """XLA's account of one device: arguments, temporaries, results in no argument's place."""
        if self.compiled is None:
            return None
        account: Any = self.compiled.memory_analysis()
        results = account.output_size_in_bytes - account.alias_size_in_bytes
        sizes = account.argument_size_in_bytes, account.temp_size_in_bytes, results, self.beside
        return sum(sizes)


def compile_all(
    base: Base, trained: int, decoded: int, memory: int | None = None
) -> Iterator[Program]:
    """Yields the programs that a run needs for a model, one after the other.

    Args:
      base: the model.
      trained: adapters of a training step.
      decoded: adapters of an evaluation batch.
      memory: bytes of a device, if they are known; it decides how layers lie, see `models.step`.
    """
    yield Program('training', compile_training(base, trained))
    yield from compile_decoding(base, decoded, memory)


def compile_training(base: Base, adapters: int) -> Compiled | None:
    """Compiles a training step of stacked adapters, in which every example has `max_len` tokens.

    Half of each example are answers. The step is computed in one piece. Returns None if it does not
    fit.
    """
    experiment, recipe = base.experiment, base.experiment.train_config
    optimizer = make_optimizer(recipe)
    adapters = sharding.pad_adapters(base.mesh, adapters)
    trained = stacked_adapters(base, adapters)
    state = _placed(
        TrainState(trained, jax.eval_shape(jax.vmap(optimizer.init), trained)),
        state_shardings(base.mesh, base.config, optimizer, recipe.targets, adapters),
    )
    parts, shards = base.mesh.shape['adapters'], sharding.pad_rows(base.mesh, 1)
    rows = parts * shards
    block = min(_BLOCK, experiment.max_len)
    tokens = -(-adapters // parts * experiment.batch_size // shards) * experiment.max_len
    tokens = -(-tokens // block) * block

    def row(length: int, dtype: DTypeLike) -> jax.ShapeDtypeStruct:
        return array(base, (rows, length), dtype, 'packed', None)

    pack = Pack(
        row(tokens, jnp.int32), row(tokens, jnp.int32), row(tokens // 2, jnp.int32),
        row(tokens // 2, jnp.float32), row(tokens // block, jnp.int32),
    )  # fmt: skip
    train_step = make_train_step(base.module, base.mesh, optimizer, recipe.targets)
    rates, scale = array(base, (adapters,), jnp.float32), array(base, (), jnp.float32)
    blocking = Blocking(block, -(-(experiment.max_len - 1) // block))
    return _compile(train_step.lower(base.params, state, pack, rates, scale, blocking, 1))


def compile_decoding(base: Base, adapters: int, memory: int | None = None) -> Iterator[Program]:
    """Yields the pass over one evaluation batch's prompts, and the decoding if they fit.

    Args:
      base: the model.
      adapters: decoded together, each with `eval_batch_size` prompts of `max_len` tokens.
      memory: as in `compile_all`.
    """
    experiment = base.experiment
    adapters = sharding.pad_adapters(base.mesh, adapters)
    shape = (adapters, sharding.pad_rows(base.mesh, experiment.eval_batch_size))
    batch = ('adapters', 'batch', None)
    tokens = array(base, (*shape, bucket(experiment.max_len)), jnp.int32, *batch)
    given, stops = stacked_adapters(base, adapters), array(base, (1,), jnp.int32)
    lowered = prompts.read_jit.lower(
        base.module, base.params, given, tokens, tokens, rows=shape[1], in_pieces=False
    )
    reading = _compile(lowered)
    yield Program('prompts', reading)
    if reading is None:
        return  # where its results would lie is not known
    read = _placed(lowered.out_info, reading.output_shardings)
    keys = jax.eval_shape(
        lambda: jnp.broadcast_to(jax.random.key_data(jax.random.key(0)), (*shape, 2))
    )
    length = experiment.max_new_tokens or experiment.max_len
    options: dict[str, Any] = {'pad_id': 0, 'sampler': Greedy()}
    params = _apart(base, memory)
    first = decoding.begin.lower(
        base.module, base.params, read, array(base, keys.shape, keys.dtype, *batch),
        array(base, shape, jnp.bool_, *batch[:2]), stops, max_new_tokens=length,
        num_slots=length, split=step.is_split(params), **options,
    )  # fmt: skip
    beginning = _compile(first)
    if beginning is None:
        yield Program('decoding', None)
        return
    begun = _placed(first.out_info, beginning.output_shardings)
    loop = decoding.decode.lower(
        base.module, params, given, begun, stops, array(base, (adapters,), jnp.int32), **options
    )
    beside = _bytes(base.params['layers']) if step.is_split(params) else 0
    yield Program('decoding', _compile(loop), beside)


def _compile(lowered: Any) -> Compiled | None:
    """Compiles a program; None if its compiler says that the device is too small."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        return None


def _apart(base: Base, memory: int | None) -> Params:
    """Returns the weights with their layers apart, where decoding takes them so."""
    leaves = jax.tree.leaves(base.params['layers'])
    is_whole = all(leaf.sharding.is_fully_replicated for leaf in leaves)
    devices, depth = list(base.mesh.devices.flat), base.config.num_layers
    if not step.pays_on(devices, _bytes(leaves), depth, is_whole, memory):
        return base.params
    layer = jax.tree.map(
        lambda leaf: array(base, leaf.shape[1:], leaf.dtype), base.params['layers']
    )
    return {**base.params, 'layers': (layer,) * depth}


def _placed(arrays: Any, where: Any) -> Any:
    """Returns a tree of arrays without content, where a program leaves them."""

    def at(x: Any, place: Any) -> Any:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

    return jax.tree.map(at, arrays, where)


def _bytes(tree: Any) -> int:
    """Returns the bytes of arrays without content."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
