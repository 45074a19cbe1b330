"""Attention against a plain float64 loop, and the masks."""

import jax.numpy as jnp
import numpy as np
import pytest

from lorajax.models import attention
from lorajax.models.attention import Blocking, KeyValues, attend, blocked_mask, look_back

B, T, S, K, G, H = 2, 3, 5, 2, 2, 4


def arrays(length, seed=0):
    """Keys, values and a mask of which some rows see nothing of this block."""
    rng = np.random.default_rng(seed)
    k, v = (rng.normal(size=(B, length, K, H)).astype(np.float32) for _ in range(2))
    return KeyValues(jnp.array(k), jnp.array(v), jnp.array(rng.random((B, T, length)) < 0.6))


def queries(seed=9):
    q = np.random.default_rng(seed).normal(size=(B, T, K, G, H))
    return jnp.array(q.astype(np.float32))


def plain(q, k, v, mask):
    """One query at a time, float64; every query sees something."""
    q, k, v = (np.asarray(array, np.float64) for array in (q, k, v))
    out = np.zeros(q.shape)
    for b, t, head, group in np.ndindex(q.shape[:-1]):
        seen = np.flatnonzero(mask[b, t])
        scores = k[b, seen, head] @ q[b, t, head, group] / np.sqrt(H)
        weights = np.exp(scores - scores.max())
        out[b, t, head, group] = weights @ v[b, seen, head] / weights.sum()
    return out


def test_it_equals_a_plain_loop():
    block = arrays(S)
    block = block._replace(mask=block.mask.at[:, :, 0].set(True))
    expected = plain(queries(), *block)
    # float32 sums of at most five products.
    np.testing.assert_allclose(attend(queries(), (block,)), expected, rtol=1e-5, atol=1e-6)


def test_blocks_are_attended_to_as_if_they_were_one():
    first, second = arrays(S), arrays(T, seed=1)
    first = first._replace(mask=first.mask.at[:, :, 0].set(True))
    joined = [jnp.concatenate(pair, axis=1) for pair in zip(first[:2], second[:2], strict=True)]
    mask = jnp.concatenate([first.mask, second.mask], axis=2)
    expected = plain(queries(), *joined, mask)
    np.testing.assert_allclose(attend(queries(), (first, second)), expected, rtol=1e-5, atol=1e-6)


def test_a_query_that_sees_nothing_gives_the_mean_not_nan():
    block = arrays(S)._replace(mask=jnp.zeros((B, T, S), bool))
    out = np.asarray(attend(queries(), (block,)))
    mean = np.asarray(block.v).mean(axis=1)[:, None, :, None]
    np.testing.assert_allclose(out, np.broadcast_to(mean, out.shape), rtol=1e-5, atol=1e-6)


def test_a_token_sees_itself_and_what_precedes_it_in_its_segment():
    mask = np.asarray(attention.causal_mask(jnp.array([[0, 1, 1, 2]])))[0]
    expected = [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(mask, np.array(expected, bool))


def test_positions_count_within_segments():
    segments = jnp.array([[0, 0, 1, 1, 1], [1, 1, 2, 2, 0], [1, 1, 1, 1, 1]])
    expected = [[0, 0, 0, 1, 2], [0, 1, 0, 1, 0], [0, 1, 2, 3, 4]]
    np.testing.assert_array_equal(attention.positions_of(segments), expected)


def test_a_window_counts_the_token_itself():
    mask = np.asarray(attention.causal_mask(jnp.array([[0, 1, 1, 1, 2]]), window=2))[0]
    expected = [[0] * 5, [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_array_equal(mask, np.array(expected, bool))


def test_a_window_over_a_cache_goes_by_the_age_of_slots():
    valid = jnp.array([[True, True, True, False, True, True]])  # written next: slot 3
    new = jnp.array([[1, 1, 0]])
    seen = np.asarray(attention.cached_mask(valid, new, 3, window=4))[0]
    # Slots 2, 1, 0 and 5 are 1, 2, 3 and 4 tokens before the first new one.
    expected = [[1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6]
    np.testing.assert_array_equal(seen, np.array(expected, bool))
    every = np.asarray(attention.cached_mask(valid, new, 3))[0]
    np.testing.assert_array_equal(every, [valid[0], valid[0], [False] * 6])


def test_a_cap_bounds_scores_and_keeps_small_ones():
    x = jnp.array([-300.0, -0.01, 0.02, 5.0])
    np.testing.assert_allclose(
        attention.soft_cap(x, 5.0), [-5, -0.01, 0.02, 5 * np.tanh(1)], rtol=1e-5
    )
    np.testing.assert_array_equal(attention.soft_cap(x, None), x)


@pytest.mark.parametrize('window', [None, 3])
@pytest.mark.parametrize(
    'blocking', [Blocking(4, 2), Blocking(2, 3), Blocking(6, 1), Blocking(12, 0)]
)
def test_blocks_that_look_back_far_enough_attend_as_the_whole_row(blocking, window):
    rng = np.random.default_rng(3)
    segments = jnp.array([[1] * 3 + [2] * 7 + [0] * 2, [0] + [3] * 5 + [1] * 6])
    q = rng.normal(size=(2, 12, K, G, H)).astype(np.float32)
    k, v = (rng.normal(size=(2, 12, K, H)).astype(np.float32) for _ in range(2))
    whole = attend(q, (KeyValues(k, v, attention.causal_mask(segments, window)),))
    seen = KeyValues(
        look_back(k, blocking), look_back(v, blocking), blocked_mask(segments, blocking, window)
    )
    cut = attend(q.reshape(-1, blocking.size, K, G, H), (seen,)).reshape(whole.shape)
    real = np.asarray(segments) > 0
    np.testing.assert_allclose(cut[real], whole[real], rtol=1e-5, atol=1e-6)


def test_a_block_sees_zeros_before_the_row():
    x = jnp.arange(1, 7).reshape(1, 6, 1)
    seen = look_back(x, Blocking(2, 1))[..., 0]
    np.testing.assert_array_equal(seen, [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6]])
