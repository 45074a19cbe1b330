"""The compiled training step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lorajax import sharding
from lorajax.lora.tree import fold_scale
from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.tasks.batching import Batch
from lorajax.training.state import TrainState, state_shardings
from lorajax.types import Adapter, Params


@functools.cache
def make_train_step(
    module: Transformer,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    targets: tuple[str, ...],
) -> Any:
    """Returns the compiled step `(params, state, batch, rates, scale) -> (state, loss)`.

    The base is an argument that is not differentiated; the step is vmapped over adapters, so the
    products of all of them with a base weight are one matrix product.

    Equal arguments get the same function, so every shape is compiled once in a process.

    Args:
      module: the decoder.
      mesh: where `params` live.
      optimizer: from `make_optimizer`.
      targets: adapted projections.

    Returns:
      A function of
        params: base weights.
        state: `TrainState`, every leaf with a leading axis A; donated.
        batch: `Batch`, every leaf [A, B, ...]; the mesh divides B.
        rates: float32[A], learning rates; an adapter with a rate of 0 keeps its factors.
        scale: alpha / rank.
      which returns the new state and float32[A], nats per answer token before the step.
    """

    def one(
        params: Params, state: TrainState, batch: Batch, rate: jax.Array, scale: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        def loss(adapter: Adapter) -> jax.Array:
            nll = target_nll(module, params, fold_scale(adapter, scale), *batch)
            return nll.sum() / jnp.maximum(batch.target_mask.sum(), 1.0)

        value, grads = jax.value_and_grad(loss)(state.adapters)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.adapters)
        updates = jax.tree.map(lambda update: -rate * update, updates)
        return TrainState(optax.apply_updates(state.adapters, updates), opt_state), value

    replicated = sharding.sharding(mesh)
    rows = sharding.sharding(mesh, None, 'batch', None)
    where = state_shardings(mesh, module.config, optimizer, targets)
    return jax.jit(
        jax.vmap(one, in_axes=(None, 0, 0, 0, None)),
        in_shardings=(None, where, Batch(rows, rows, rows, rows), replicated, replicated),
        out_shardings=(where, replicated),
        donate_argnums=(1,),
    )
