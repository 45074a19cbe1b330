"""Kernel ridge regression with an unpenalised intercept, in closed form and in its dual form.

A prediction is a weighted sum of the anchors' targets, y* = sum_t w_t y_t with sum(w) = 1, so
fitting never touches the targets themselves: A x A kernels are enough, and one
eigendecomposition of the centred kernel serves every penalty. For H = I - 11^T/A,
H K H = V diag(e) V^T and the query's kernel row k*:

  w = 1/A + V diag(1 / (e + lambda)) V^T H (k* - K 1/A)

which solves the bordered system [[K + lambda I, 1], [1^T, 0]] [w; c] = [k*; 1]. The penalty is
scikit-learn's `alpha` of Ridge on the features whose inner products K holds; infinity is
allowed and gives the mean.

Everything here is `jax.numpy` and keeps the dtype that it is given; callers compile it with
`float64.on_host`. Leading axes are batch axes throughout.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lorajax.mapping import lapack
from lorajax.types import Array

# Penalties tried by leave-one-out, relative to the mean diagonal of the centred kernel.
RELATIVE_GRID = np.append(np.geomspace(1e-4, 1e4, 49), np.inf)


class CentredKernel(NamedTuple):
    """Eigendecomposition of H K H without its constant direction, and K 1/A."""

    values: Array  # float64[..., A - 1], >= 0
    vectors: Array  # float64[..., A, A - 1], eigenvectors in the columns, each of sum 0
    row_means: Array  # float64[..., A], K 1/A

    @property
    def mean_diagonal(self) -> jax.Array:
        """float64[...], trace(H K H) / A; 1 for a kernel that is zero."""
        mean = jnp.sum(self.values, -1) / self.row_means.shape[-1]
        return jnp.where(mean > 0, mean, 1.0)


class Choice(NamedTuple):
    """A penalty, and how it does on anchors left out."""

    penalty: Array  # float64[G], absolute; infinity is the mean
    relative: Array  # float64[G], over the mean diagonal of each centred kernel
    left_out: Array  # float64[G, A, A], see `leave_one_out`


def centre(kernel: Array) -> CentredKernel:
    """Centres and decomposes a kernel, float64[..., A, A].

    H = Q Q^T for orthonormal contrasts Q, so H K H = Q (Q^T K Q) Q^T. The smaller matrix is
    decomposed: what comes of it sums to 0 up to rounding, however wide the eigenvalues spread,
    where eigenvectors of H K H itself mix with the constant one.
    """
    anchors = kernel.shape[-1]
    chex.assert_equal(kernel.shape[-2], anchors)
    contrasts = jnp.asarray(_contrasts(anchors), kernel.dtype)
    row_means = jnp.mean(kernel, -1)
    if anchors == 1:
        return CentredKernel(jnp.zeros((*kernel.shape[:-2], 0)), kernel[..., :0], row_means)
    small = contrasts.T @ kernel @ contrasts
    symmetric = (small + jnp.swapaxes(small, -1, -2)) / 2
    values, vectors = lapack.eigh(symmetric)
    return CentredKernel(jnp.maximum(values, 0.0), contrasts @ vectors, row_means)


def _contrasts(anchors: int) -> np.ndarray:
    """Returns orthonormal columns of sum 0, float64[A, A - 1] (Helmert 1876)."""
    columns = np.zeros((anchors, anchors - 1))
    for j in range(1, anchors):
        columns[:j, j - 1] = 1.0
        columns[j, j - 1] = -j
    return columns / np.linalg.norm(columns, axis=0)


def weights(kernel: CentredKernel, cross: Array, ridge_lambda: Array) -> jax.Array:
    """Returns the anchors' weights for a query, float64[..., A]; they sum to 1.

    Args:
      kernel: of the anchors, batch axes [...].
      cross: float64[..., A], the query's kernel row k*.
      ridge_lambda: float64[...], penalties > 0, infinity included.

    Source: Saunders, Gammerman, Vovk 1998, with the intercept profiled out.
    """
    chex.assert_equal(cross.shape[-1], kernel.row_means.shape[-1])
    row = cross - kernel.row_means
    shrunk = jnp.einsum('...ij,...i->...j', kernel.vectors, row)
    shrunk = shrunk / (kernel.values + jnp.asarray(ridge_lambda)[..., None])
    return 1.0 / row.shape[-1] + jnp.einsum('...ij,...j->...i', kernel.vectors, shrunk)


def leave_one_out(kernel: CentredKernel, ridge_lambda: Array) -> jax.Array:
    """Returns the weights that predict each anchor from the others, float64[..., A, A].

    Row i sums to 1 and has a zero at i: it is what refitting without anchor i would give for
    it, from one decomposition. With S the smoother of the fit, intercept included, the
    left-out residual is (y - S y)_i / (1 - S_ii).

    Args:
      kernel: of all anchors, batch axes [...].
      ridge_lambda: float64[...], penalties > 0, infinity included.

    Source: Cook 1977 (deletion residuals); Golub, Heath, Wahba 1979, section 1.
    """
    anchors = kernel.row_means.shape[-1]
    if anchors == 1:
        return jnp.zeros((*kernel.row_means.shape, 1))
    # The intercept fits constants exactly: no part of a residual is constant.
    kept = 1.0 / (1.0 + kernel.values / jnp.asarray(ridge_lambda)[..., None])
    scaled = kernel.vectors * kept[..., None, :]
    residual = scaled @ jnp.swapaxes(kernel.vectors, -1, -2)
    leverage_gap = jnp.einsum('...ii->...i', residual)
    return jnp.eye(anchors) - residual / leverage_gap[..., None]


def mean_leave_one_out(anchors: int) -> np.ndarray:
    """Returns the leave-one-out weights of the mean, float64[A, A]; zero for one anchor."""
    return (np.ones((anchors, anchors)) - np.eye(anchors)) / max(anchors - 1, 1)


def loo_r2(loo_weights: Array, target: Array) -> jax.Array:
    """Returns 1 - left-out squared error / that of the mean of the other anchors.

    Each anchor's error is divided by its own squared norm, so that anchors with long training,
    and large updates, do not decide alone. 0 is as good as the mean, 1 is perfect.

    Args:
      loo_weights: float64[..., G, A, A], row i predicts anchor i.
      target: float64[G, A, A], inner products of the anchors' targets in each group.

    Returns:
      float64[...]; 0 if there is a single anchor.
    """
    chex.assert_equal(loo_weights.shape[-3:], target.shape)
    anchors = target.shape[-1]
    if anchors == 1:
        return jnp.zeros(loo_weights.shape[:-3])
    norms = anchor_norms(target)

    def error(rows: Array) -> jax.Array:
        left_out = jnp.eye(anchors) - rows
        squared = jnp.sum((left_out @ target) * left_out, axis=(-3, -1))
        return jnp.mean(squared / norms, -1)

    reference = error(jnp.broadcast_to(mean_leave_one_out(anchors), target.shape))
    return 1.0 - error(loo_weights) / jnp.where(reference > 0, reference, 1.0)


def anchor_norms(target: Array) -> jax.Array:
    """Returns float64[A], squared norms over all groups of float64[G, A, A]; 1 where zero."""
    norms = jnp.einsum('gii->i', target)
    return jnp.where(norms > 0, norms, 1.0)


def choose_penalty(source: Array, target: Array, may_be_mean: bool = True) -> Choice:
    """Chooses the penalty by leave-one-out, the same relative one for all groups.

    Args:
      source: float64[G, A, A], kernels between anchors, one per group of target tensors.
      target: float64[G, A, A], inner products of the anchors' targets in that group.
      may_be_mean: whether infinity is in the grid, which is the mean: it is chosen if no finite
        penalty is better, or if there are too few anchors to tell. Otherwise the largest finite
        penalty stands for it.
    """
    chex.assert_equal_shape([source, target])
    kernel = centre(source)
    scale = kernel.mean_diagonal
    grid = jnp.asarray(RELATIVE_GRID)
    last = len(grid) - 1
    if source.shape[-1] < 3:
        index = jnp.asarray(last)
    else:
        scores = jax.lax.map(
            lambda relative: loo_r2(leave_one_out(kernel, relative * scale), target), grid
        )
        index = last - jnp.argmax(scores[::-1])  # ties: the larger penalty
    if not may_be_mean:
        index = jnp.minimum(index, last - 1)
    penalty = grid[index] * scale
    return Choice(penalty, jnp.full_like(scale, grid[index]), leave_one_out(kernel, penalty))


def given_penalty(source: Array, ridge_lambda: Array) -> Choice:
    """Returns a penalty that was given, the same absolute one for all groups.

    Args:
      source: float64[G, A, A], kernels between anchors.
      ridge_lambda: float64[], > 0.
    """
    kernel = centre(source)
    penalty = jnp.broadcast_to(ridge_lambda, kernel.mean_diagonal.shape)
    return Choice(penalty, penalty / kernel.mean_diagonal, leave_one_out(kernel, penalty))
