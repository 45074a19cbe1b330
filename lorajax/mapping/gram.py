"""Inner products of adapters from products of their factors.

An adapter's factors are defined only up to an invertible R x R matrix M: (a M, M^-1 b) is the
same update. Two spaces are offered:

- 'factor': the entries of a and b side by side, as the seed of this project used them. It
  depends on the gauge M, so it compares adapters only if they started from the same a.
- 'delta': the update a @ b itself. Gauge-free. The dense [in, out] matrix is never formed:
  <a_s b_s, a_t b_t> = sum((a_s^T a_t) * (b_s b_t^T)), which needs R x R products only.

Products of whole factors are numpy's, that is BLAS on the host: adapters come from files, a fit
looks at each once, and XLA would compile a program for every width of the model and copy every
array. What follows from them, R x R and less, is JAX's.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lorajax.errors import InputError
from lorajax.mapping.compiling import quick_jit
from lorajax.types import Array

# TPUs and GPUs would otherwise multiply float32 in bfloat16 or TF32.
einsum = functools.partial(jnp.einsum, precision='highest')


def block_grams(
    a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns all products a_s^T x_t and b_s y_t^T of two stacks of adapters.

    Args:
      a, b: float32[A, in, R] and float32[A, R, out].
      x, y: float32[C, in, Q] and float32[C, Q, out].

    Returns:
      float32[A, R, C, Q], twice.
    """
    _check_factors(a, b)
    _check_factors(x, y)
    shape = a.shape[0], a.shape[2], x.shape[0], x.shape[2]
    columns = side_by_side(a)
    others = columns if x is a else side_by_side(x)
    inner = columns.T @ others
    outer = b.reshape(-1, b.shape[2]) @ y.reshape(-1, y.shape[2]).T
    return inner.reshape(shape), outer.reshape(shape)


def side_by_side(a: np.ndarray) -> np.ndarray:
    """Returns the columns of float32[A, in, R] in one matrix, float32[in, A R]."""
    return a.swapaxes(0, 1).reshape(a.shape[1], -1)


def delta_products(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Returns <a_s b_s, x_t y_t> as float32[A, C] from the two arrays of `block_grams`."""
    chex.assert_rank([inner, outer], 4)
    return (inner * outer).sum((1, 3))


def factor_products(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns <a_s, x_t> + <b_s, y_t> as float32[A, C].

    Args:
      a, b: float32[A, in, R] and float32[A, R, out].
      x, y: float32[C, in, R] and float32[C, R, out].
    """
    _check_factors(a, b)
    chex.assert_equal([a.shape[1:], b.shape[1:]], [x.shape[1:], y.shape[1:]])
    flat = [factor.reshape(len(factor), -1) for factor in (a, b, x, y)]
    return flat[0] @ flat[2].T + flat[1] @ flat[3].T


def cross_products(
    space: str, a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns inner products of two stacks of one tensor, and of the second with itself.

    Args:
      space: 'factor' or 'delta'; see the module docstring.
      a, b: float32[A, in, R] and float32[A, R, out].
      x, y: float32[C, in, Q] and float32[C, Q, out]; Q must be R in the 'factor' space.

    Returns:
      float64[A, C] and float64[C].
    """
    if space == 'factor':
        cross = factor_products(a, b, x, y)
        own = np.square(x).sum((1, 2)) + np.square(y).sum((1, 2))
    else:
        cross = delta_products(*block_grams(a, b, x, y))
        inner, outer = own_grams(x, y)
        own = (inner * outer).sum((1, 2))
    return cross.astype(np.float64), own.astype(np.float64)


def own_grams(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a_t^T a_t and b_t b_t^T of each adapter, float32[A, R, R] twice."""
    _check_factors(a, b)
    return a.swapaxes(1, 2) @ a, b @ b.swapaxes(1, 2)


@quick_jit()
def cosines(
    blocks: tuple[Array, Array], own: tuple[Array, Array], other: tuple[Array, Array]
) -> jax.Array:
    """Returns cosines between two stacks of updates X_s, X_t and between their second moments.

    <X_s^T X_s, X_t^T X_t> = |X_s X_t^T|^2 compares what two updates write, whatever they read
    and whatever its sign; <X_s X_s^T, X_t X_t^T> = |X_s^T X_t|^2 what they read.

    Args:
      blocks: `block_grams` of the two stacks.
      own, other: `own_grams` of the first and of the second.

    Returns:
      float32[3, A, C]: of X, of X^T X (outputs) and of X X^T (inputs); 0 for zero updates.
    """
    chex.assert_rank(blocks, 4)
    inner, outer = blocks
    # Powers of four of the updates' size would leave the range of float32.
    size, other_size = (
        [jnp.sqrt(jnp.einsum('arr->a', gram)) for gram in grams] for grams in (own, other)
    )
    (aa, bb), (xx, yy) = (
        [
            _divide(gram, scale[:, None, None] ** 2)
            for gram, scale in zip(grams, scales, strict=True)
        ]
        for grams, scales in ((own, size), (other, other_size))
    )
    inner = _divide(inner, size[0][:, None, None, None] * other_size[0][:, None])
    outer = _divide(outer, size[1][:, None, None, None] * other_size[1][:, None])
    update = jnp.sum(inner * outer, (1, 3))
    writes = einsum('apr,arcq,cqs,apcs->ac', aa, outer, xx, outer)
    reads = einsum('apr,arcq,cqs,apcs->ac', bb, inner, yy, inner)
    lengths, other_lengths = (
        (einsum('arq,arq->a', left, right), einsum('apr,arq,aqs,aps->a', left, right, left, right))
        for left, right in ((aa, bb), (xx, yy))
    )
    square, fourth = (
        jnp.sqrt(here[:, None] * there) for here, there in zip(lengths, other_lengths, strict=True)
    )
    return jnp.stack([_divide(update, square), _divide(writes, fourth), _divide(reads, fourth)])


def _divide(values: Array, scales: Array) -> jax.Array:
    """values / scales, 0 where the scale is 0."""
    return jnp.where(scales > 0, values / jnp.where(scales > 0, scales, 1.0), 0.0)


def _check_factors(a: Array, b: Array) -> None:
    """Checks that two stacks of factors belong together, from their static shapes."""
    chex.assert_rank([a, b], 3)
    chex.assert_equal([a.shape[0], a.shape[2]], [b.shape[0], b.shape[1]])


def trace_scales(grams: np.ndarray) -> np.ndarray:
    """Returns float64[P], the mean diagonal of each Gram matrix (1 where it is 0).

    Dividing by it gives each tensor the same weight in a sum of kernels.

    Args:
      grams: float64[P, A, A].
    """
    scales = np.einsum('ptt->p', grams) / grams.shape[-1]
    return np.where(scales > 0, scales, 1.0)


def stabilised(kernel: np.ndarray) -> np.ndarray:
    """Adds 1e-9 of the mean diagonal to float64[..., A, A], so equal anchors can be solved."""
    diagonal = np.einsum('...ii->...', kernel) / kernel.shape[-1]
    shift = 1e-9 * np.where(diagonal > 0, diagonal, 1.0)
    return kernel + shift[..., None, None] * np.eye(kernel.shape[-1])


def solve(kernels: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solves kernels @ x = right by LU, float64[..., A, A] and float64[..., A, N].

    Raises:
      InputError: if a kernel is singular. Those of anchors with something on the diagonal are not:
        they come from a damaged file.
    """
    try:
        return np.linalg.solve(kernels, right)
    except np.linalg.LinAlgError:
        raise InputError(
            'a kernel of the mapping is singular; expected inner products of anchors'
        ) from None
