"""The key/value cache of decoding."""

from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp

# Keys or values of all layers: one array, or a tuple with an array for each.
Layers = Any


@flax.struct.dataclass
class Cache:
    """Keys and values of the tokens so far.

    With stacked adapters every leaf has an axis A before B; the layer axis stays first, so that the
    layer scan reads the cache without a transpose. A cache for weights whose layers are apart
    (`step.split_layers`) is apart too. The heads stand before the slots, so attention reads it as
    it lies: with the slots first a GPU turned the whole cache over and kept both.

    The slots are a ring. All rows write to the same slot at the same time, whenever their prompts
    came in: attention does not ask in which order keys lie, only which of them are valid.

    Attributes:
      k: [L, (A,) B, K, S, H] or L times [(A,) B, K, S, H], keys after rotation.
      v: like `k`.
      valid: bool[(A,) B, S], which slots hold a token of the row.
    """

    k: Layers
    v: Layers
    valid: jax.Array


# For jax.vmap over adapters, of a cache whose layers lie in one array.
ADAPTER_AXES = Cache(k=1, v=1, valid=0)  # type: ignore[arg-type]


def is_split(cache: Cache) -> bool:
    """Returns whether each layer has an array of its own."""
    return isinstance(cache.k, tuple)


def from_prompts(
    kv: tuple[jax.Array, jax.Array], valid: jax.Array, num_slots: int, split: bool = False
) -> Cache:
    """Returns a cache that holds prompts' keys and values and `num_slots` free slots behind them.

    Args:
      kv: keys and values [L, (A,) B, T, K, H] of the prompts.
      valid: bool[(A,) B, T], False for padding.
      num_slots: room for new tokens.
      split: whether to take the layers apart.
    """
    k, v = kv
    chex.assert_equal_shape((k, v))
    chex.assert_shape(k, (None, *valid.shape, None, None))
    k, v = (_widen(heads_first(array), -2, num_slots) for array in kv)
    wide = _widen(valid, -1, num_slots)
    return Cache(tuple(k), tuple(v), wide) if split else Cache(k, v, wide)


def heads_first(array: jax.Array) -> jax.Array:
    """[..., S, K, H] -> [..., K, S, H], and back."""
    return jnp.swapaxes(array, -3, -2)


def write(cache: Cache, kv: tuple[jax.Array, jax.Array], slot: jax.Array) -> Cache:
    """Returns the cache with one new token per row written at `slot`.

    Args:
      cache: with all layers in one array; inside a jitted loop it is updated in place.
      kv: keys and values [L, (A,) B, 1, K, H].
      slot: int32[], the same for all rows.
    """

    def put(array: jax.Array, update: jax.Array, axis: int) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(array, update.astype(array.dtype), slot, axis)

    k, v = map(heads_first, kv)
    chex.assert_shape((k, v), (*cache.k.shape[:-2], 1, cache.k.shape[-1]))
    true = jnp.ones((*cache.valid.shape[:-1], 1), bool)
    return Cache(put(cache.k, k, -2), put(cache.v, v, -2), put(cache.valid, true, -1))


def insert(
    cache: Cache,
    kv: tuple[jax.Array, jax.Array],
    valid: jax.Array,
    slot: jax.Array,
    group: jax.Array | None,
    lanes: jax.Array,
) -> Cache:
    """Returns the cache with new prompts in the place of some rows of one adapter, or of all.

    A prompt is put into the slots before `slot`, round the ring, so that its row goes on where all
    others do.

    Args:
      cache: of stacked adapters [A, B].
      kv: keys and values [L, (A,) N, T, K, H] of N prompts, T <= S.
      valid: bool[(A,) N, T], False for padding.
      slot: int32[], where the next tokens will be written.
      group: int32[], index on A; None for all adapters.
      lanes: int32[(A,) N], indices on B; those outside of it are left out.
    """
    ring = cache.valid.shape[-1]
    length = valid.shape[-1]
    k, v = (jnp.roll(_widen(heads_first(x), -2, ring - length), slot - length, axis=-2) for x in kv)
    turned = jnp.roll(_widen(valid, -1, ring - length), slot - length, axis=-1)
    new_valid = put_rows(cache.valid, turned, group, lanes)
    if is_split(cache):

        def put(array: jax.Array, update: jax.Array) -> jax.Array:
            return put_rows(array, update, group, lanes)

        return Cache(
            jax.tree.map(put, cache.k, tuple(k)), jax.tree.map(put, cache.v, tuple(v)), new_valid
        )
    of_layers = jax.vmap(put_rows, in_axes=(0, 0, None, None))
    return Cache(
        of_layers(cache.k, k, group, lanes), of_layers(cache.v, v, group, lanes), new_valid
    )


def put_rows(
    array: jax.Array, update: jax.Array, group: jax.Array | None, lanes: jax.Array
) -> jax.Array:
    """Returns [A, B, ...] with the rows [(A,) N, ...] of one group, or of all, in some lanes."""
    if group is not None:
        return array.at[group, lanes].set(update, mode='drop')
    return jax.vmap(lambda old, new, at: old.at[at].set(new, mode='drop'))(array, update, lanes)


def _widen(array: jax.Array, axis: int, count: int) -> jax.Array:
    """Adds `count` zeros at the end of an axis."""
    pad = [(0, 0)] * array.ndim
    pad[axis] = (0, count)
    return jnp.pad(array, pad)
