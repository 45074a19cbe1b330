"""Negative log-likelihood of chosen tokens: the training loss and the teacher-forced score."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lorajax import sharding
from lorajax.models.attention import Blocking, soft_cap
from lorajax.models.layers import matmul_precision
from lorajax.models.stacked import forward
from lorajax.models.transformer import Transformer, logits_of, unembedding
from lorajax.types import Adapter, Params

_MOST_LOGITS = 2**24  # that exist at a time, 64 MB


def target_nll(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    segment_ids: jax.Array,
    target_index: jax.Array,
    target_mask: jax.Array,
) -> jax.Array:
    """Returns the loss of each target token given everything before it.

    Only the positions before a target are unembedded: with a vocabulary of 150 thousand the
    logits of a prompt would cost more memory than all activations of a layer.

    Args:
      module: the decoder.
      params: base weights.
      adapter: None, one adapter, or adapters stacked on A.
      tokens: int32[(A,) B, T].
      segment_ids: int32[(A,) B, T].
      target_index: int32[(A,) B, M], where in its row each target token stands (>= 1).
      target_mask: float32[(A,) B, M], 1 for real targets, 0 for filling.

    Returns:
      float32[(A,) B, M], nats, 0 where the mask is 0.
    """
    chex.assert_equal_shape((tokens, segment_ids))
    chex.assert_equal_shape((target_index, target_mask))
    chex.assert_equal_shape_prefix((tokens, target_index), tokens.ndim - 1)
    hidden, _ = forward(module, params, adapter, tokens, segment_ids)
    return _nll_at(module, params, hidden, tokens, target_index) * target_mask


def packed_nll(
    module: Transformer,
    params: Params,
    adapters: Adapter,
    tokens: jax.Array,
    segment_ids: jax.Array,
    target_index: jax.Array,
    target_mask: jax.Array,
    adapter_index: jax.Array,
    blocking: Blocking,
) -> jax.Array:
    """Returns the loss of each target token in rows of several sequences of several adapters.

    Args:
      module: the decoder.
      params: base weights.
      adapters: adapters stacked on A.
      tokens: int32[B, T].
      segment_ids: int32[B, T], another positive number for every sequence of a row.
      target_index: int32[B, M], where in its row each target token stands (>= 1).
      target_mask: float32[B, M], 1 for real targets, 0 for filling.
      adapter_index: int32[B, T / c], which adapter each block of c tokens gets.
      blocking: how rows are cut for attention.

    Returns:
      float32[B, M], nats, 0 where the mask is 0.
    """
    is_single = jax.tree.leaves(adapters)[0].shape[0] == 1
    # The layers are scanned, so L comes first.
    by_layer = jax.tree.map(lambda leaf: leaf[0] if is_single else leaf.swapaxes(0, 1), adapters)
    hidden, _ = module.apply(
        {'params': params, 'lora': by_layer},
        tokens,
        segment_ids,
        blocking=blocking,
        adapter_index=None if is_single else adapter_index,
    )
    return _nll_at(module, params, hidden, tokens, target_index) * target_mask


def _nll_at(
    module: Transformer,
    params: Params,
    hidden: jax.Array,
    tokens: jax.Array,
    target_index: jax.Array,
) -> jax.Array:
    """Returns the loss of tokens [..., T] at target_index [..., M] given what is before them."""
    before = jnp.take_along_axis(hidden, target_index[..., None] - 1, axis=-2)  # ... M D
    targets = jnp.take_along_axis(tokens, target_index, axis=-1)
    softcap = module.config.logit_softcap
    return token_nll(unembedding(params), before, targets, softcap, module.mesh)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def token_nll(
    matrix: jax.Array,
    hidden: jax.Array,
    targets: jax.Array,
    softcap: float | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Returns -log softmax(hidden @ matrix.T) of the targets, never all logits at once.

    A token's loss depends on its own hidden state alone. So the gradient of it is computed with
    the loss, from the same logits, and kept in place of them: D numbers a token and not V, and
    no product is computed twice. Logits are made for as many positions at a time as
    `_MOST_LOGITS` holds.

    Args:
      matrix: [V, D], the unembedding.
      hidden: [..., M, D].
      targets: int32[..., M].
      softcap: bounds the logits, see `attention.soft_cap`.
      mesh: where all arrays lie; None for one device.

    Returns:
      float32[..., M], nats.

    Source: Hsu et al. 2024 (Liger Kernel), section 3.2, fused linear cross-entropy.
    """
    chex.assert_equal_shape_prefix((hidden, targets), targets.ndim)
    chex.assert_shape(matrix, (None, hidden.shape[-1]))

    def one(hidden: jax.Array, targets: jax.Array) -> jax.Array:
        logits = soft_cap(_logits(matrix, hidden, mesh), softcap)
        return jax.nn.logsumexp(logits, axis=-1) - _at(logits, targets)

    return _by_chunks(one, len(matrix), hidden, targets)


def _nll_forward(
    matrix: jax.Array,
    hidden: jax.Array,
    targets: jax.Array,
    softcap: float | None,
    mesh: Mesh | None,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Returns the loss and, among what the backward pass needs, its gradient by `hidden`."""

    def one(hidden: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = soft_cap(_logits(matrix, hidden, mesh), softcap)
        top = logits.max(axis=-1, keepdims=True)
        unscaled = jnp.exp(logits - top)
        total = unscaled.sum(axis=-1, keepdims=True)
        nll = (top + jnp.log(total))[..., 0] - _at(logits, targets)
        slopes = _slope(logits, softcap)
        mean = jnp.einsum(
            '...v,vd->...d',
            (unscaled * slopes).astype(hidden.dtype),
            matrix.astype(hidden.dtype),
            precision=matmul_precision(hidden.dtype),
            preferred_element_type=jnp.float32,
        )
        own = matrix[targets]
        if softcap is not None:
            own = own * _at(slopes, targets)[..., None]
        return nll, (mean / total - own).astype(hidden.dtype)

    nll, gradient = _by_chunks(one, len(matrix), hidden, targets)
    return nll, (matrix, hidden, targets, gradient)


def _nll_backward(
    softcap: float | None,
    mesh: Mesh | None,
    residuals: tuple[jax.Array, ...],
    cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array, None]:
    """Returns the cotangents; that of the matrix is compiled only where it is asked for."""
    matrix, hidden, targets, gradient = residuals

    def add(total: jax.Array, chunk: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        hidden, targets, cotangent = chunk
        logits = soft_cap(_logits(matrix, hidden, mesh), softcap)
        slopes = _slope(logits, softcap)
        share = jax.nn.softmax(logits, axis=-1) * slopes * cotangent[..., None]
        by_matrix = jnp.einsum(
            '...v,...d->vd',
            share.astype(hidden.dtype),
            hidden,
            precision=matmul_precision(hidden.dtype),
            preferred_element_type=jnp.float32,
        )
        scaled = hidden.astype(jnp.float32) * cotangent[..., None]
        if softcap is not None:
            scaled = scaled * _at(slopes, targets)[..., None]
        return total + by_matrix.at[targets].add(-scaled), None

    axis, count = targets.ndim - 1, _num_chunks(len(matrix), targets.size)
    chunks = tuple(_split(x, axis, count) for x in (hidden, targets, cotangent))
    by_matrix, _ = jax.lax.scan(add, jnp.zeros(matrix.shape, jnp.float32), chunks)
    by_hidden = gradient.astype(jnp.float32) * cotangent[..., None]
    return by_matrix.astype(matrix.dtype), by_hidden.astype(hidden.dtype), None


token_nll.defvjp(_nll_forward, _nll_backward)


def _logits(matrix: jax.Array, hidden: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Returns float32 logits [..., V], rows where their hidden states are."""
    logits = logits_of(matrix, hidden)
    return logits if mesh is None else sharding.constrain(logits, mesh, 'logits')


def _slope(logits: jax.Array, softcap: float | None) -> jax.Array:
    """Returns the derivative of capped logits by what was capped."""
    return jnp.ones_like(logits) if softcap is None else 1 - (logits / softcap) ** 2


def _at(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the logits [...] of the targets."""
    return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def _num_chunks(vocabulary: int, positions: int) -> int:
    """Returns into how many chunks the positions are cut."""
    return -(-vocabulary * positions // _MOST_LOGITS)


def _split(x: jax.Array, axis: int, count: int) -> jax.Array:
    """Cuts an axis into equal chunks, the last filled with zeros, which come to lie first."""
    size = -(-x.shape[axis] // count)
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, count * size - x.shape[axis])
    cut = jnp.pad(x, padding).reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(cut, axis, 0)


def _by_chunks(
    one: Callable[..., Any], vocabulary: int, hidden: jax.Array, targets: jax.Array
) -> Any:
    """Returns `one(hidden, targets)`, computed for a chunk of positions after the other."""
    axis, count = targets.ndim - 1, _num_chunks(vocabulary, targets.size)
    if count <= 1:
        return one(hidden, targets)

    def join(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, 0, axis)
        joined = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
        return jax.lax.slice_in_dim(joined, 0, targets.shape[axis], axis=axis)

    chunks = [_split(x, axis, count) for x in (hidden, targets)]
    return jax.tree.map(join, jax.lax.map(lambda chunk: one(*chunk), chunks))
