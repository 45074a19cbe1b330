"""What a training step changes, how it begins and where it lies."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from lorajax import sharding
from lorajax.lora.tree import init_adapter
from lorajax.models import ModelConfig
from lorajax.models.model import param_axes
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


def adapter_shardings(mesh: Mesh, shape: ModelConfig, targets: Sequence[str]) -> Adapter:
    """Returns the sharding of every leaf of stacked adapters, A and the rank replicated.

    `a` [A, L, in, R] follows the input axis of its base kernel, `b` [A, L, R, out] the output
    axis.
    """
    layers, axes = {}, param_axes(mesh, shape)
    for name in targets:
        _, fan_out, fan_in = axes[f'layers/{name}/kernel']
        layers[name] = {
            'a': sharding.sharding(mesh, None, None, fan_in, None),
            'b': sharding.sharding(mesh, None, None, None, fan_out),
        }
    return {'layers': layers}


def state_shardings(
    mesh: Mesh,
    shape: ModelConfig,
    optimizer: optax.GradientTransformation,
    targets: Sequence[str],
) -> TrainState:
    """Returns the sharding of every leaf of a `TrainState`: moments lie where factors lie."""
    adapters = adapter_shardings(mesh, shape, targets)
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


def init_state(
    shape: ModelConfig, config: TrainConfig, tasks: Sequence[str], mesh: Mesh
) -> TrainState:
    """Returns fresh adapters of tasks and their moments, placed on a mesh.

    The initial `a` depends on the seed and, with `separate_init`, on the task's name, but not
    on which adapters are trained together.
    """
    if config.separate_init:
        drawn = [generator(config.seed, 'init', task, config.repeat) for task in tasks]
        seeds = [int(rng.integers(2**31)) for rng in drawn]
    else:
        seeds = [config.seed]
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    init = _make_init(shape, mesh, make_optimizer(config), config.targets, config.rank, len(tasks))
    return init(keys)


@functools.cache
def _make_init(
    shape: ModelConfig,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    targets: tuple[str, ...],
    rank: int,
    num_adapters: int,
) -> Any:
    """Returns the compiled function from keys, one for all or one for each, to a state."""

    def init(keys: jax.Array) -> TrainState:
        adapters = jax.vmap(
            lambda key: init_adapter(key, shape.projections, shape.num_layers, rank, targets)
        )(keys)
        adapters = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_adapters, *leaf.shape[1:])), adapters
        )
        return TrainState(adapters, jax.vmap(optimizer.init)(adapters))

    return jax.jit(init, out_shardings=state_shardings(mesh, shape, optimizer, targets))
