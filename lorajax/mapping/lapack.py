"""Decompositions on the CPU, one matrix after the other.

jaxlib (0.10.2) gives every batch of a LAPACK call to the pool of threads that runs the program,
and waits inside that pool. Two such calls at once on two cores wait for each other for ever
(measured: the eigenvectors of 16 x 28 kernels on both sides, within 2,000 runs); on 128 cores and
more the batch corrupts the heap (jax-ml/jax issue 39292). A call without a batch does neither.
The matrices here are small: a loop over 896 of 15 x 15 takes 18 ms, numpy's 13 ms.
"""

import jax
import jax.numpy as jnp

from lorajax.types import Array


def eigh(matrices: Array) -> tuple[jax.Array, jax.Array]:
    """Returns eigenvalues [..., N], ascending, and eigenvectors [..., N, N] in the columns.

    Args:
      matrices: [..., N, N], symmetric; the lower triangle is read.
    """
    flat = jnp.reshape(matrices, (-1, *matrices.shape[-2:]))
    values, vectors = jax.lax.map(_eigh, flat)
    return values.reshape(matrices.shape[:-1]), vectors.reshape(matrices.shape)


def _eigh(matrix: Array) -> tuple[jax.Array, jax.Array]:
    values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    return values, vectors


@jax.custom_batching.sequential_vmap
def solve_positive(matrix: Array, right: Array) -> jax.Array:
    """Returns [N, K], the solution of a positive definite system; `jax.vmap` makes it a loop.

    Args:
      matrix: [N, N], symmetric and positive definite.
      right: [N, K].
    """
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), right)
