"""What a training step changes, how it begins and where it lies."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from lorajax import sharding
from lorajax.lora.tree import init_adapter
from lorajax.models import ModelConfig
from lorajax.models.placement import adapter_shardings
from lorajax.rng import generator
from lorajax.training.config import TrainConfig
from lorajax.training.optimizer import make_optimizer
from lorajax.types import Adapter


class TrainState(NamedTuple):
    """What a training step changes; every leaf has a leading axis A.

    Here, and only here, the scale alpha / rank is not folded into `b`: AdamW's steps do not
    depend on the size of a gradient, so where the scale stands matters to the result.
    """

    adapters: Adapter
    opt_state: optax.OptState


def state_shardings(
    mesh: Mesh,
    shape: ModelConfig,
    optimizer: optax.GradientTransformation,
    targets: Sequence[str],
    count: int = 0,
) -> TrainState:
    """Returns the sharding of every leaf of a `TrainState`: moments lie where factors lie.

    Args:
      mesh: where the base lies.
      shape: of the base.
      optimizer: from `make_optimizer`.
      targets: adapted projections.
      count: A, as in `adapter_shardings`.
    """
    adapters = adapter_shardings(mesh, shape, targets, count)
    replicated = sharding.sharding(mesh)
    scalars = jax.tree.map(
        lambda _: jax.ShapeDtypeStruct((), jnp.float32),
        adapters,
        is_leaf=lambda node: isinstance(node, NamedSharding),
    )
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, where: where,
        jax.eval_shape(optimizer.init, scalars),
        adapters,
        transform_non_params=lambda _: replicated,
    )
    return TrainState(adapters, opt_state)


def stacked_shape(
    shape: ModelConfig, configs: Sequence[TrainConfig]
) -> tuple[int, tuple[str, ...]]:
    """Returns the rank and the targets of a stack that holds adapters of several recipes.

    An adapter of a lower rank, or of fewer targets, has zeros in the rest of both factors. They
    stay zeros: the gradient of either factor is a product with the other one.
    """
    targets = {name for config in configs for name in config.targets}
    rank = max(config.rank for config in configs)
    return rank, tuple(name for name in shape.projections if name in targets)


def init_state(
    shape: ModelConfig,
    configs: TrainConfig | Sequence[TrainConfig],
    tasks: Sequence[str],
    mesh: Mesh,
    stacked: tuple[int, tuple[str, ...]] | None = None,
) -> TrainState:
    """Returns fresh adapters of tasks and their moments, placed on a mesh.

    The initial `a` depends on the seed and, with `separate_init`, on the task's name, but not
    on which adapters are trained together.

    Args:
      shape: of the model.
      configs: the recipe of all tasks, or of each.
      tasks: one adapter each.
      mesh: where the model lies.
      stacked: rank and targets of the stack; what holds these adapters if None.
    """
    each = [configs] * len(tasks) if isinstance(configs, TrainConfig) else list(configs)
    seeds = [_init_seed(config, task) for config, task in zip(each, tasks, strict=True)]
    seeds = seeds[:1] if len(set(seeds)) == 1 else seeds
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    recipes = tuple((config.rank, config.targets) for config in each)
    stacked = stacked or stacked_shape(shape, each)
    return _make_init(shape, mesh, make_optimizer(each[0]), recipes, *stacked)(keys)


def _init_seed(config: TrainConfig, task: str) -> int:
    """Returns the seed of an adapter's initial `a`."""
    if not config.separate_init:
        return config.seed
    rng = generator(config.seed, 'init', config.data_order or task, config.repeat)
    return int(rng.integers(2**31))


@functools.cache
def _make_init(
    shape: ModelConfig,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    recipes: tuple[tuple[int, tuple[str, ...]], ...],
    rank: int,
    targets: tuple[str, ...],
) -> Callable[[jax.Array], TrainState]:
    """Returns the compiled function from keys, one for all or one for each, to a state."""

    def one(key: jax.Array, rank: int, targets: tuple[str, ...]) -> Adapter:
        return init_adapter(key, shape.projections, shape.num_layers, rank, targets)

    def init(keys: jax.Array) -> TrainState:
        if len(set(recipes)) == 1:
            adapters = jax.vmap(lambda key: one(key, *recipes[0]))(keys)
            adapters = jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (len(recipes), *leaf.shape[1:])), adapters
            )
        else:
            every = jnp.broadcast_to(keys, (len(recipes),))
            widened = [
                widen(one(key, *recipe), shape, rank, targets)
                for key, recipe in zip(every, recipes, strict=True)
            ]
            adapters = jax.tree.map(lambda *leaves: jnp.stack(leaves), *widened)
        adapters = widen(adapters, shape, rank, targets)
        return TrainState(adapters, jax.vmap(optimizer.init)(adapters))

    where = state_shardings(mesh, shape, optimizer, targets, len(recipes))
    return jax.jit(init, out_shardings=where)


def widen(adapter: Adapter, shape: ModelConfig, rank: int, targets: Sequence[str]) -> Adapter:
    """Returns an adapter with zeros in what it has not.

    Args:
      adapter: one, or several stacked on A.
      shape: of the base.
      rank: R of the result, at least the adapter's own.
      targets: projections of the result, the adapter's own among them.
    """
    entries = adapter['layers']
    lead = next(iter(entries.values()))['a'].shape[:-2]  # (A) L
    layers = {}
    for name in targets:
        fan_in, fan_out = shape.projections[name]
        entry = entries.get(name, {'a': jnp.zeros((*lead, fan_in, 0)),
                                   'b': jnp.zeros((*lead, 0, fan_out))})  # fmt: skip
        missing, whole = rank - entry['a'].shape[-1], [(0, 0)] * len(lead)
        layers[name] = {
            'a': jnp.pad(entry['a'], [*whole, (0, 0), (0, missing)]),
            'b': jnp.pad(entry['b'], [*whole, (0, missing), (0, 0)]),
        }
    return {'layers': layers}


def narrow(adapter: Adapter, config: TrainConfig) -> Adapter:
    """Undoes `widen` for an adapter of a recipe."""
    rank = config.rank
    return {
        'layers': {
            name: {'a': entry['a'][..., :rank], 'b': entry['b'][..., :rank, :]}
            for name, entry in adapter['layers'].items()
            if name in config.targets
        }
    }


def replace_one(state: TrainState, place: int, fresh: TrainState) -> TrainState:
    """Returns the state with another adapter, a state of one, in a place of the stack.

    Args:
      state: donated.
      place: index on A.
      fresh: every leaf with an axis A of 1.
    """
    where = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.device_put(_replace(state, jnp.int32(place), fresh), where)


def resize(state: TrainState, count: int) -> TrainState:
    """Returns the first `count` places of the stack, or more places, which hold the first again."""
    here = len(jax.tree.leaves(state.adapters)[0])
    if count == here:
        return state
    index = np.arange(count) % here if count > here else np.arange(count)
    return jax.tree.map(lambda leaf: leaf[index], state)


@functools.partial(jax.jit, donate_argnums=(0,))
def _replace(state: TrainState, place: jax.Array, fresh: TrainState) -> TrainState:
    def put(leaf: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(leaf, new, place, axis=0)

    return jax.tree.map(put, state, fresh)
