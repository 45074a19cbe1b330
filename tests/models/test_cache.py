"""The cache holds what was put where, for one adapter and for several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax.models import cache as cache_lib

L, B, T, K, H, FREE = 2, 3, 4, 2, 5, 3


def prompt(rows):
    rng = np.random.default_rng(0)
    kv = tuple(jnp.array(rng.normal(size=(L, *rows, T, K, H)).astype(np.float32)) for _ in range(2))
    segments = jnp.array(rng.integers(0, 2, (*rows, T)).astype(np.int32))
    return kv, segments


@pytest.mark.parametrize('rows', [(B,), (4, B)], ids=['one adapter', 'stacked adapters'])
def test_prompt_and_new_tokens_stand_one_after_the_other(rows):
    kv, segments = prompt(rows)
    cache = cache_lib.from_prefill(kv, segments, FREE)
    assert cache.k.shape == cache.v.shape == (L, *rows, T + FREE, K, H)
    for array, part in zip((cache.k, cache.v), kv, strict=True):
        np.testing.assert_array_equal(array[..., :T, :, :], part)
        assert not np.asarray(array[..., T:, :, :]).any()
    np.testing.assert_array_equal(cache.valid[..., :T], segments > 0)
    assert not np.asarray(cache.valid[..., T:]).any()

    new = tuple(part[..., :1, :, :] + 1 for part in kv)
    written = cache_lib.write(cache, new, jnp.int32(T + 1))
    np.testing.assert_array_equal(written.k[..., T + 1 : T + 2, :, :], new[0])
    np.testing.assert_array_equal(written.v[..., T + 1 : T + 2, :, :], new[1])
    assert np.asarray(written.valid[..., T + 1]).all()
    for slot in set(range(T + FREE)) - {T + 1}:
        np.testing.assert_array_equal(written.k[..., slot, :, :], cache.k[..., slot, :, :])
        np.testing.assert_array_equal(written.valid[..., slot], cache.valid[..., slot])


def test_the_axes_for_a_map_over_adapters_are_those_of_the_stack():
    kv, segments = prompt((4, B))
    stacked = cache_lib.from_prefill(kv, segments, FREE)
    sizes = jax.tree.map(lambda leaf, axis: leaf.shape[axis], stacked, cache_lib.ADAPTER_AXES)
    assert jax.tree.leaves(sizes) == [4, 4, 4]


def test_keys_of_another_shape_are_refused():
    kv, segments = prompt((B,))
    cache = cache_lib.from_prefill(kv, segments, FREE)
    with pytest.raises(AssertionError, match='shape'):
        cache_lib.write(cache, kv, jnp.int32(T))
