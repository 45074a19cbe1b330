"""The low-rank update, on activations and as a weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import lora
from lorajax.lora.delta import blocked_delta

KEYS = jax.random.split(jax.random.key(0), 4)
X = jax.random.normal(KEYS[0], (2, 5, 24))
A = jax.random.normal(KEYS[1], (24, 3))
B = jax.random.normal(KEYS[2], (3, 40))
DY = jax.random.normal(KEYS[3], (2, 5, 40))


def plain(x, a, b):
    return (x @ a) @ b


def distance(actual, expected):
    """Returns the relative distance in norm, to a float64 reference."""
    expected = np.asarray(expected, np.float64)
    return np.linalg.norm(np.asarray(actual, np.float64) - expected) / np.linalg.norm(expected)


def test_the_update_and_its_gradients_are_those_of_two_products():
    """Within float32 rounding of sums of at most 40 products: 40 x 6e-8, in norm far less."""
    with jax.enable_x64():
        exact = [np.asarray(value, np.float64) for value in (X, A, B, DY)]
        expected, pull = jax.vjp(plain, *exact[:3])
        gradients = pull(exact[3])
    found, pull = jax.vjp(lora.low_rank_delta, X, A, B)
    assert distance(found, expected) < 2e-6
    for actual, gradient in zip(pull(DY), gradients, strict=True):
        assert actual.dtype == jnp.float32
        assert distance(actual, gradient) < 2e-6


def test_activations_give_the_dtype_and_factors_keep_theirs():
    x = X.astype(jnp.bfloat16)
    found, pull = jax.vjp(lora.low_rank_delta, x, A, B)
    assert found.dtype == jnp.bfloat16
    dx, da, db = pull(DY.astype(jnp.bfloat16))
    assert (dx.dtype, da.dtype, db.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    # bfloat16 keeps 8 bits: 4e-3 a rounding, three of them on the way.
    assert distance(found, plain(X, A, B)) < 2e-2
    assert distance(da, jax.vjp(plain, X, A, B)[1](DY)[1]) < 2e-2


def test_it_maps_over_adapters():
    stacked = jax.vmap(lora.low_rank_delta, in_axes=(None, 0, 0))(
        X, jnp.stack([A, 2 * A]), jnp.stack([B, B])
    )
    np.testing.assert_allclose(stacked[1], 2 * stacked[0], rtol=1e-6)


def test_blocks_of_several_adapters_get_each_its_own():
    keys = jax.random.split(jax.random.key(1), 4)
    x, dy = (jax.random.normal(key, (2, 6, n)) for key, n in zip(keys, (24, 40), strict=False))
    a, b = (
        jax.random.normal(key, s) for key, s in zip(keys[2:], ((3, 24, 2), (3, 2, 40)), strict=True)
    )
    index = jnp.array([[0, 2, 2], [1, 0, 2]])

    def loop(x, a, b):
        blocks = x.reshape(6, 2, 24)
        out = [plain(blocks[i], a[j], b[j]) for i, j in enumerate(index.ravel().tolist())]
        return jnp.stack(out).reshape(2, 6, 40)

    expected, pull = jax.vjp(loop, x, a, b)
    found, pull_found = jax.vjp(lambda *args: blocked_delta(*args, index), x, a, b)
    # float32 rounding of sums of at most 40 products, in norm.
    assert distance(found, expected) < 2e-6
    for actual, gradient in zip(pull_found(dy), pull(dy), strict=True):
        assert distance(actual, gradient) < 2e-6


def test_factors_that_do_not_fit_are_refused():
    for x, a, b in ((X, A[1:], B), (X, A, B[1:]), (X, A[None], B)):
        with pytest.raises(AssertionError):
            lora.low_rank_delta(x, a, b)
    with pytest.raises(AssertionError):
        lora.delta_weight({'a': A, 'b': B[1:]})


def test_the_weight_is_the_update_written_out():
    weight = lora.delta_weight({'a': A, 'b': B})
    assert weight.shape == (40, 24)
    exact = np.asarray(B, np.float64).T @ np.asarray(A, np.float64).T
    assert distance(weight, exact) < 1e-6
    stacked = lora.delta_weight({'a': jnp.stack([A, 2 * A]), 'b': jnp.stack([B, B])})
    np.testing.assert_allclose(stacked[1], 2 * weight, rtol=1e-6)
