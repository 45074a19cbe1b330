"""The cache holds what was put where, for one adapter and for several, whole and layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax.models import cache as cache_lib

L, A, B, T, K, H, FREE = 2, 4, 3, 4, 2, 5, 3


def prompt(rows, length=T, seed=0):
    rng = np.random.default_rng(seed)
    shape = (L, *rows, length, K, H)
    kv = tuple(jnp.array(rng.normal(size=shape).astype(np.float32)) for _ in range(2))
    return kv, jnp.array(rng.integers(0, 2, (*rows, length)).astype(bool))


def whole(layers):
    """[L, (A,) B, S, K, H], however the layers lie."""
    stacked = np.stack(layers) if isinstance(layers, tuple) else np.asarray(layers)
    return np.swapaxes(stacked, -2, -3)


@pytest.mark.parametrize('split', [False, True], ids=['scanned', 'apart'])
@pytest.mark.parametrize('rows', [(B,), (A, B)], ids=['one adapter', 'stacked adapters'])
def test_prompt_and_new_tokens_stand_one_after_the_other(rows, split):
    kv, valid = prompt(rows)
    cache = cache_lib.from_prompts(kv, valid, FREE, split)
    assert cache_lib.is_split(cache) == split
    for array, part in zip((cache.k, cache.v), kv, strict=True):
        assert whole(array).shape == (L, *rows, T + FREE, K, H)
        np.testing.assert_array_equal(whole(array)[..., :T, :, :], part)
        assert not whole(array)[..., T:, :, :].any()
    np.testing.assert_array_equal(cache.valid[..., :T], valid)
    assert not np.asarray(cache.valid[..., T:]).any()

    if split:
        return  # its tokens are written by `step`
    new = tuple(part[..., :1, :, :] + 1 for part in kv)
    written = cache_lib.write(cache, new, jnp.int32(T + 1))
    for array, part, before in zip((written.k, written.v), new, (cache.k, cache.v), strict=True):
        after, former = whole(array), whole(before)
        np.testing.assert_array_equal(after[..., T + 1 : T + 2, :, :], part)
        for slot in set(range(T + FREE)) - {T + 1}:
            np.testing.assert_array_equal(after[..., slot, :, :], former[..., slot, :, :])
            np.testing.assert_array_equal(written.valid[..., slot], cache.valid[..., slot])
    assert np.asarray(written.valid[..., T + 1]).all()


@pytest.mark.parametrize('split', [False, True], ids=['scanned', 'apart'])
@pytest.mark.parametrize('slot', [0, 2, 6])
def test_prompts_are_inserted_before_the_slot_round_the_ring(split, slot):
    kv, valid = prompt((A, B))
    cache = cache_lib.from_prompts(kv, valid, FREE, split)
    new, new_valid = prompt((2,), length=3, seed=1)
    lanes = jnp.array([1, B])  # the second is left out
    mixed = cache_lib.insert(cache, new, new_valid, jnp.int32(slot), jnp.int32(2), lanes)
    slots = [(slot - 3 + i) % (T + FREE) for i in range(3)]
    for array, part, before in zip((mixed.k, mixed.v), new, (cache.k, cache.v), strict=True):
        np.testing.assert_array_equal(whole(array)[:, 2, 1, slots], part[:, 0])
        others = np.ones((A, B), bool)
        others[2, 1] = False
        np.testing.assert_array_equal(whole(array)[:, others], whole(before)[:, others])
        np.testing.assert_array_equal(mixed.valid[others], cache.valid[others])
    expected = np.zeros(T + FREE, bool)
    expected[slots] = new_valid[0]
    np.testing.assert_array_equal(mixed.valid[2, 1], expected)  # nothing is left of the old row


def test_the_axes_for_a_map_over_adapters_are_those_of_the_stack():
    kv, valid = prompt((A, B))
    stacked = cache_lib.from_prompts(kv, valid, FREE)
    sizes = jax.tree.map(lambda leaf, axis: leaf.shape[axis], stacked, cache_lib.ADAPTER_AXES)
    assert jax.tree.leaves(sizes) == [A, A, A]


def test_keys_of_another_shape_are_refused():
    kv, valid = prompt((B,))
    cache = cache_lib.from_prompts(kv, valid, FREE)
    with pytest.raises(AssertionError, match='shape'):
        cache_lib.write(cache, kv, jnp.int32(T))
