import jax
import numpy as np
import pytest

from lorajax.mapping.compiling import quick_jit


def test_compiles_once_for_each_shape_and_static_argument():
    traced = []

    @quick_jit(static_argnames='power')
    def raised(x, power):
        """Doc."""
        traced.append((x.shape, power))
        return x**power

    for size, power in ((2, 3), (2, 3), (2, 4), (5, 3)):
        np.testing.assert_allclose(raised(np.full(size, 2.0), power=power), 2.0**power)
    assert traced == [((2,), 3), ((2,), 4), ((5,), 3)]
    assert raised.__name__ == 'raised' and raised.__doc__ == 'Doc.'


def test_jax_refuses_it_inside_another_program():
    inner = quick_jit()(lambda x: x + 1)
    with pytest.raises(ValueError, match='compiler_options'):
        jax.jit(lambda x: inner(x) * 2)(1.0)
