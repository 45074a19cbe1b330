import jax
import jax.numpy as jnp
import numpy as np

from lorajax.mapping.float64 import on_host


def test_runs_in_float64_and_leaves_the_rest_in_float32():
    @on_host
    def third(x):
        return {'value': x / 3, 'dtype_free': jnp.ones(2)}

    result = third(np.float64(1.0))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(result))
    assert result['value'].dtype == result['dtype_free'].dtype == np.float64
    assert abs(result['value'] - 1 / 3) < 1e-16
    assert jnp.ones(1).dtype == jnp.float32 and not jax.config.jax_enable_x64


def test_compiles_once_for_each_shape():
    traced = []

    @on_host(static_argnames=('power',))
    def raised(x, power):
        traced.append(x.shape)
        return x**power

    for size in (2, 3, 2, 3):
        np.testing.assert_array_equal(raised(np.full(size, 2.0), power=3), np.full(size, 8.0))
    assert traced == [(2,), (3,)]
