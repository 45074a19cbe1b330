"""Inner products of adapters from products of their factors.

An adapter's factors are defined only up to an invertible R x R matrix M: (a M, M^-1 b) is the
same update. Two spaces are offered:

- 'factor': the entries of a and b side by side, as the seed of this project used them. It
  depends on the gauge M, so it compares adapters only if they started from the same a.
- 'delta': the update a @ b itself. Gauge-free. The dense [in, out] matrix is never formed:
  <a_s b_s, a_t b_t> = sum((a_s^T a_t) * (b_s b_t^T)), which needs R x R products only.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# TPUs and GPUs would otherwise multiply float32 in bfloat16 or TF32.
einsum = functools.partial(jnp.einsum, precision='highest')


@jax.jit
def block_grams(
    a: jax.Array, b: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns all products a_s^T x_t and b_s y_t^T of two stacks of adapters.

    Args:
      a, b: float32[A, in, R] and float32[A, R, out].
      x, y: float32[C, in, Q] and float32[C, Q, out].

    Returns:
      float32[A, R, C, Q], twice.
    """
    return einsum('air,ciq->arcq', a, x), einsum('aro,cqo->arcq', b, y)


@jax.jit
def delta_products(inner: jax.Array, outer: jax.Array) -> jax.Array:
    """Returns <a_s b_s, x_t y_t> as float32[A, C] from the two arrays of `block_grams`."""
    return einsum('arcq,arcq->ac', inner, outer)


@jax.jit
def factor_products(a: jax.Array, b: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns <a_s, x_t> + <b_s, y_t> as float32[A, C]; see `block_grams`, with Q = R."""
    return einsum('air,cir->ac', a, x) + einsum('aro,cro->ac', b, y)


def inner_products(
    space: str, a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Returns float64[A, C], the inner products of two stacks of one tensor.

    Args:
      space: 'factor' or 'delta'; see the module docstring.
      a, b: float32[A, in, R] and float32[A, R, out].
      x, y: float32[C, in, Q] and float32[C, Q, out]; Q must be R in the 'factor' space.
    """
    if space == 'factor':
        products = factor_products(a, b, x, y)
    else:
        products = delta_products(*block_grams(a, b, x, y))
    return np.asarray(products, np.float64)


@jax.jit
def own_grams(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns a_t^T a_t and b_t b_t^T of each adapter, float32[A, R, R] twice."""
    return einsum('air,aiq->arq', a, a), einsum('aro,aqo->arq', b, b)


@jax.jit
def cosines(
    blocks: tuple[jax.Array, jax.Array],
    own: tuple[jax.Array, jax.Array],
    other: tuple[jax.Array, jax.Array],
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
    update = delta_products(inner, outer)
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


def _divide(values: jax.Array, scales: jax.Array) -> jax.Array:
    """values / scales, 0 where the scale is 0."""
    return jnp.where(scales > 0, values / jnp.where(scales > 0, scales, 1.0), 0.0)


def trace_scales(grams: np.ndarray) -> np.ndarray:
    """Returns float64[P], the mean diagonal of each Gram matrix (1 where it is 0).

    Dividing by it gives each tensor the same weight in a sum of kernels.

    Args:
      grams: float64[P, A, A].
    """
    scales = np.einsum('ptt->p', grams) / grams.shape[-1]
    return np.where(scales > 0, scales, 1.0)
