"""Grouped-query attention over one or several blocks of keys, and its masks."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

_MASKED = -1e30  # finite, so that a fully masked (padding) query gives a mean, not NaN


class KeyValues(NamedTuple):
    """A block of keys and values and who may look at it."""

    k: jax.Array  # [B, S, K, H]
    v: jax.Array  # [B, S, K, H]
    mask: jax.Array  # bool[B, T, S], True = query t may attend to key s


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
    """Returns cap * tanh(x / cap), which bounds x smoothly; x itself without a cap.

    Source: Gemma Team 2024 (Gemma 2), section 2.
    """
    return x if cap is None else cap * jnp.tanh(x / cap)


def attend(
    q: jax.Array,
    kv_blocks: tuple[KeyValues, ...],
    scale: float | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """Attends jointly to several blocks of keys, as if they were concatenated.

    Decoding passes the cache and the new token as two blocks, so the cache is only read:
    it is neither copied nor rewritten inside the layer loop.

    Args:
      q: [B, T, K, G, H], queries grouped by the key/value head that they share.
      kv_blocks: keys, values and masks; K and H as in `q`.
      scale: of the scores; H ** -0.5 if None.
      softcap: bounds the scaled scores, see `soft_cap`.

    Returns:
      [B, T, K, G, H] in the dtype of `q`; scores and softmax are float32.

    Source: Vaswani et al. 2017, section 3.2.1; Ainslie et al. 2023 (grouped queries).
    """
    chex.assert_rank(q, 5)
    batch, length, heads, _, width = q.shape
    for k, v, mask in kv_blocks:
        chex.assert_shape((k, v), (batch, None, heads, width))
        chex.assert_shape(mask, (batch, length, k.shape[1]))
    scale = width**-0.5 if scale is None else scale
    # Operands lie as batched products take them. XLA's CPU backend would turn the scores over
    # otherwise, which are the largest array: 20.6 ms and 14.3 ms for two blocks of 256 tokens.
    queries = q.transpose(0, 2, 3, 1, 4).reshape(batch, heads, -1, width)  # B K (G T) H
    scores = []
    for block in kv_blocks:
        keys = block.k.swapaxes(1, 2)
        s = jnp.einsum('bkxh,bksh->bkxs', queries, keys, preferred_element_type=jnp.float32)
        s = soft_cap(s * scale, softcap).reshape(batch, heads, -1, length, keys.shape[2])
        scores.append(jnp.where(block.mask[:, None, None], s, _MASKED))  # B K G T S
    probs = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1).astype(q.dtype)
    probs = probs.reshape(*queries.shape[:3], -1)  # B K (G T) S
    out = jnp.zeros((), q.dtype)
    start = 0
    for block in kv_blocks:
        stop = start + block.k.shape[1]
        values = block.v.swapaxes(1, 2)
        out += jnp.einsum('bkxs,bksh->bkxh', probs[..., start:stop], values)
        start = stop
    return out.reshape(batch, heads, -1, length, width).transpose(0, 3, 1, 2, 4)


class Blocking(NamedTuple):
    """How a row of several sequences is cut, so that attention costs no more than one of them.

    Attributes:
      size: tokens of a block; divides the row.
      lookback: how many earlier blocks a token may look into; no sequence begins farther back.
    """

    size: int
    lookback: int


def look_back(x: jax.Array, blocking: Blocking) -> jax.Array:
    """Returns what the tokens of each block may see: the block and those before it.

    Args:
      x: [B, T, ...].
      blocking: T is a multiple of its size, c.

    Returns:
      [B * T / c, (lookback + 1) * c, ...]; zeros stand for what is before the row.
    """
    batch, length = x.shape[:2]
    count = length // blocking.size
    blocks = x.reshape(batch, count, blocking.size, *x.shape[2:])
    padding = [(0, 0), (blocking.lookback, 0)] + [(0, 0)] * (blocks.ndim - 2)
    padded = jnp.pad(blocks, padding)
    seen = [padded[:, start : start + count] for start in range(blocking.lookback + 1)]
    return jnp.concatenate(seen, axis=2).reshape(batch * count, -1, *x.shape[2:])


def blocked_mask(
    segment_ids: jax.Array, blocking: Blocking, window: int | None = None
) -> jax.Array:
    """Returns `causal_mask` for blocks and what `look_back` gives them.

    Args:
      segment_ids: int32[B, T] as of `causal_mask`; no number comes twice in a row.
      blocking: T is a multiple of its size, c.
      window: as of `causal_mask`.

    Returns:
      bool[B * T / c, c, (lookback + 1) * c].
    """
    chex.assert_rank(segment_ids, 2)
    size, lookback = blocking
    queries = segment_ids.reshape(-1, size)
    keys = look_back(segment_ids, blocking)
    causal = _band(size, (lookback + 1) * size, lookback * size, window)
    return (queries[:, :, None] == keys[:, None, :]) & (keys > 0)[:, None, :] & causal


def causal_mask(segment_ids: jax.Array, window: int | None = None) -> jax.Array:
    """Returns bool[B, T, T]: a token sees itself and what precedes it in its own segment.

    Args:
      segment_ids: int32[B, T]; 0 marks padding, equal positive numbers one sequence. A plain
        0/1 attention mask is the case of one sequence a row.
      window: tokens that a token sees at most, itself included; all if None.
    """
    chex.assert_rank(segment_ids, 2)
    length = segment_ids.shape[-1]
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    causal = jnp.tril(jnp.ones((length, length), bool))
    if window is not None:
        causal &= jnp.triu(jnp.ones((length, length), bool), 1 - window)
    return same & causal & (segment_ids > 0)[:, None, :]


def _band(queries: int, keys: int, ahead: int, window: int | None) -> np.ndarray:
    """Returns bool[queries, keys]: query i sees keys up to i + ahead, at most `window` of them."""
    band = np.tri(queries, keys, ahead, dtype=bool)
    return band if window is None else band & ~np.tri(queries, keys, ahead - window, dtype=bool)


def cached_mask(
    valid: jax.Array, segment_ids: jax.Array, slot: jax.Array | int, window: int | None = None
) -> jax.Array:
    """Returns bool[B, T, S], which slots of a cache new tokens see.

    Args:
      valid: bool[B, S], which slots hold a token of the row.
      segment_ids: int32[B, T], 0 for padding behind the new tokens.
      slot: int32[], the slot that is written next, so that the one before it is the youngest.
      window: as of `causal_mask`.
    """
    seen = valid[:, None, :] & (segment_ids > 0)[:, :, None]
    if window is None:
        return seen
    slots = valid.shape[-1]
    age = (slot - 1 - jnp.arange(slots)) % slots + 1  # S, seen from the first new token
    distance = age + jnp.arange(segment_ids.shape[-1])[:, None]  # T S
    return seen & (distance < window)


def positions_of(segment_ids: jax.Array) -> jax.Array:
    """Returns int32[B, T], each token's index within its segment (0 on padding).

    Works for left and right padding and for several segments a row; the tokens of a segment
    must be adjacent.
    """
    chex.assert_rank(segment_ids, 2)
    length = segment_ids.shape[-1]
    index = jnp.arange(length, dtype=jnp.int32)
    previous = jnp.pad(segment_ids, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    start = jnp.where(segment_ids != previous, index, 0)
    return jnp.where(segment_ids > 0, index - jax.lax.cummax(start, axis=1), 0)
