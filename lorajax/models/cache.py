"""The key/value cache of decoding."""

import chex
import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Cache:
    """Keys and values of the tokens so far.

    With stacked adapters every leaf has an axis A before B; the layer axis stays first, so
    that the layer scan reads the cache without a transpose.

    Attributes:
      k: [L, (A,) B, S, K, H], keys after rotation.
      v: [L, (A,) B, S, K, H].
      valid: bool[(A,) B, S], which slots hold a real token.
    """

    k: jax.Array
    v: jax.Array
    valid: jax.Array


# For jax.vmap over adapters.
ADAPTER_AXES = Cache(k=1, v=1, valid=0)  # type: ignore[arg-type]


def from_prefill(kv: tuple[jax.Array, jax.Array], segment_ids: jax.Array, num_slots: int) -> Cache:
    """Returns a cache that holds a prompt's keys and values and `num_slots` free slots.

    Args:
      kv: keys and values [L, (A,) B, T, K, H] of the prompt.
      segment_ids: int32[(A,) B, T], 0 for padding.
      num_slots: room for new tokens.
    """

    def widen(array: jax.Array, axis: int) -> jax.Array:
        pad = [(0, 0)] * array.ndim
        pad[axis] = (0, num_slots)
        return jnp.pad(array, pad)

    k, v = kv
    chex.assert_equal_shape((k, v))
    chex.assert_shape(k, (None, *segment_ids.shape, None, None))
    return Cache(widen(k, -3), widen(v, -3), widen(segment_ids > 0, -1))


def write(cache: Cache, kv: tuple[jax.Array, jax.Array], slot: jax.Array) -> Cache:
    """Returns the cache with one new token per row written at `slot`.

    Args:
      cache: the cache; inside a jitted loop it is updated in place.
      kv: keys and values [L, (A,) B, 1, K, H].
      slot: int32[], the same for all rows since prompts are padded on the left.
    """

    def put(array: jax.Array, update: jax.Array, axis: int) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(array, update.astype(array.dtype), slot, axis)

    k, v = kv
    chex.assert_shape((k, v), (*cache.k.shape[:-3], 1, *cache.k.shape[-2:]))
    true = jnp.ones((*cache.valid.shape[:-1], 1), bool)
    return Cache(put(cache.k, k, -3), put(cache.v, v, -3), put(cache.valid, true, -1))
