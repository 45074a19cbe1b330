import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax.mapping import bilinear, lapack, mlp, ridge

# What jaxlib's CPU hands to LAPACK, a whole batch in one call.
LAPACK = {'cholesky', 'eigh', 'householder_product', 'geqrf', 'lu', 'qr', 'svd', 'triangular_solve'}


def batched_calls(jaxpr) -> list[str]:
    """Names of the LAPACK calls in a program, and in its loops, that have batch axes."""
    found = []
    for equation in jaxpr.eqns:
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found += batched_calls(inner)
        if equation.primitive.name in LAPACK and equation.invars[0].aval.ndim > 2:
            found.append(equation.primitive.name)
    return found


def kernels(*batch):
    samples = np.random.default_rng(0).normal(size=(*batch, 5, 7)).astype(np.float32)
    return samples @ samples.swapaxes(-1, -2)


def test_the_walk_finds_a_batched_call_inside_a_compiled_function():
    program = jax.make_jaxpr(jax.jit(jnp.linalg.eigh))(kernels(3))
    assert batched_calls(program.jaxpr) == ['eigh']


@pytest.mark.parametrize(
    'function',
    [
        ridge.centre,
        lambda kernel: ridge.choose_penalty(kernel, kernel, may_be_mean=True),
        lambda kernel: mlp.query_coordinates(kernel, kernel[..., 0]),
    ],
)
def test_kernels_are_decomposed_without_a_batch(function):
    assert batched_calls(jax.make_jaxpr(function)(kernels(3)).jaxpr) == []


def test_bilinear_maps_are_solved_without_a_batch():
    draw = np.random.default_rng(1).normal
    samples = bilinear.Samples(
        draw(size=(4, 2, 3, 2)), draw(size=(4, 2, 2, 3)), draw(size=(4, 5, 2)), draw(size=(4, 2, 5))
    )

    def fit(keep):
        return bilinear.fit_maps(jax.random.key(0), samples, keep, 0.1, sweeps=2)

    assert batched_calls(jax.make_jaxpr(jax.vmap(fit))(np.ones((3, 4), np.float32)).jaxpr) == []


@pytest.mark.parametrize('batch', [(), (3,), (2, 3)])
def test_eigh_is_that_of_numpy(batch):
    matrices = kernels(*batch)
    values, vectors = lapack.eigh(matrices)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrices), rtol=0, atol=1e-4)
    rebuilt = (vectors * values[..., None, :]) @ jnp.swapaxes(vectors, -1, -2)
    np.testing.assert_allclose(rebuilt, matrices, rtol=0, atol=1e-4)


def test_solve_positive_is_that_of_numpy_with_and_without_vmap():
    matrices = kernels(3) + np.eye(5, dtype=np.float32)
    right = np.random.default_rng(2).normal(size=(3, 5, 2)).astype(np.float32)
    expected = np.linalg.solve(matrices.astype(np.float64), right)
    np.testing.assert_allclose(
        jax.vmap(lapack.solve_positive)(matrices, right), expected, rtol=0, atol=1e-3
    )
    np.testing.assert_allclose(
        lapack.solve_positive(matrices[0], right[0]), expected[0], rtol=0, atol=1e-3
    )
