"""The compiled training step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lorajax import sharding
from lorajax.lora.tree import fold_scale
from lorajax.models.attention import Blocking
from lorajax.models.loss import packed_nll
from lorajax.models.transformer import Transformer
from lorajax.training.packing import Pack
from lorajax.training.state import TrainState, state_shardings
from lorajax.types import Adapter, Params


@functools.cache
def make_train_step(
    module: Transformer,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    targets: tuple[str, ...],
) -> Any:
    """Returns the compiled step from batches to states.

    The base is an argument that is not differentiated. The tokens of all adapters go through it
    together, so its products are of one matrix each, however unequal the shares are.

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
        pack: `Pack`; the mesh divides its rows.
        rates: float32[A], learning rates; an adapter with a rate of 0 keeps its factors.
        scale: float32[A] or one number, alpha / rank.
        blocking: how the rows are cut for attention; static.
        num_pieces: of equal numbers of rows, which are computed one after the other; static.
      which returns the new state and float32[A], nats per answer token before the step.
    """
    parts = mesh.shape['adapters']

    def step(
        params: Params,
        state: TrainState,
        pack: Pack,
        rates: jax.Array,
        scale: jax.Array,
        blocking: Blocking,
        num_pieces: int,
    ) -> tuple[TrainState, jax.Array]:
        scale = jnp.broadcast_to(jnp.reshape(scale, (-1, 1, 1, 1)), (len(rates), 1, 1, 1))
        of_part = functools.partial(_gradients, module, params, blocking, num_pieces)
        if parts == 1:
            grads, losses = of_part(state.adapters, pack, scale)
        else:
            # Every part of the mesh has its own adapters and their rows: nothing is sent.
            cut = jax.tree.map(
                lambda x: x.reshape(parts, -1, *x.shape[1:]), (state.adapters, pack, scale)
            )
            found = jax.vmap(of_part, spmd_axis_name='adapters')(*cut)
            grads, losses = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
        updates, opt_state = jax.vmap(optimizer.update)(grads, state.opt_state, state.adapters)
        updates = jax.tree.map(
            lambda update: -rates.reshape(-1, *[1] * (update.ndim - 1)) * update, updates
        )
        return TrainState(optax.apply_updates(state.adapters, updates), opt_state), losses

    replicated = sharding.sharding(mesh)
    rows = sharding.sharding(mesh, 'packed', None)
    where = state_shardings(mesh, module.config, optimizer, targets)
    return jax.jit(
        step,
        in_shardings=(None, where, Pack(*[rows] * 5), replicated, replicated),
        out_shardings=(where, replicated),
        static_argnums=(5, 6),
        donate_argnums=(1,),
    )


def _gradients(
    module: Transformer,
    params: Params,
    blocking: Blocking,
    num_pieces: int,
    adapters: Adapter,
    pack: Pack,
    scale: jax.Array,
) -> tuple[Adapter, jax.Array]:
    """Returns the gradients and losses of adapters that share the rows of a pack."""

    def loss(
        adapters: Adapter, scale: jax.Array, pack: Pack, shares: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        nll = packed_nll(module, params, fold_scale(adapters, scale), *pack, blocking)
        losses = jnp.einsum('bm,bma->a', nll, shares)
        return losses.sum(), losses  # no adapter acts on the loss of another

    gradient = jax.grad(loss, has_aux=True)

    def add(total: Any, piece: Any) -> tuple[Any, None]:
        of_piece = gradient(adapters, scale, *piece)
        return jax.tree.map(jnp.add, total, of_piece), None

    def add_to_owner(total: Any, piece: Any) -> tuple[Any, None]:
        """What `add` does, for a piece of one adapter: the others' arrays are not touched."""
        owner = piece[0].adapter_index[0, 0]

        def of_owner(leaf: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(leaf, owner, 1)

        def put(leaf: jax.Array, new: jax.Array) -> jax.Array:
            new += of_owner(leaf)
            return jax.lax.dynamic_update_slice_in_dim(leaf, new, owner, axis=0)

        own = jax.tree.map(of_owner, (adapters, scale))
        grads, losses = gradient(*own, *piece)
        return (jax.tree.map(put, total[0], grads), total[1] + losses), None

    shares = _shares(pack, len(scale))
    if num_pieces == 1:
        return gradient(adapters, scale, pack, shares)
    # Each part of the mesh has the rows of all its pieces side by side.
    pieces = jax.tree.map(
        lambda x: x.reshape(-1, num_pieces, *x.shape[1:]).swapaxes(0, 1), (pack, shares)
    )
    nothing = jax.tree.map(jnp.zeros_like, (adapters, scale[:, 0, 0, 0]))
    has_one = pieces[0].adapter_index.shape[1:] == (1, 1)  # unit a piece
    found, _ = jax.lax.scan(add_to_owner if has_one else add, nothing, pieces)
    return found


def _shares(pack: Pack, count: int) -> jax.Array:
    """Returns float32[B, M, A], the share of each target in the loss of its adapter.

    Filling has none.
    """
    unit = pack.tokens.shape[1] // pack.adapter_index.shape[1]
    owner = jnp.take_along_axis(pack.adapter_index, pack.target_index // unit, axis=1)
    shares = jax.nn.one_hot(owner, count) * pack.target_mask[..., None]
    return shares / jnp.maximum(shares.sum((0, 1)), 1.0)
