"""Kernel ridge regression with an unpenalised intercept, in its dual form.

A prediction is a weighted sum of the anchors' targets, y* = sum_t w_t y_t with sum(w) = 1, so
fitting never touches the targets themselves: A x A kernels are enough, and one
eigendecomposition of the centred kernel serves every penalty. For H = I - 11^T/A,
H K H = V diag(e) V^T and the query's kernel row k*:

  w = 1/A + V diag(1 / (e + lambda)) V^T H (k* - K 1/A)

which solves the bordered system [[K + lambda I, 1], [1^T, 0]] [w; c] = [k*; 1]. The penalty is
scikit-learn's `alpha` of Ridge on the features whose inner products K holds; infinity is
allowed and gives the mean.

Everything here is numpy in float64: the problems are A x A (a few kB), the eigenvalues span
more orders of magnitude than float32 resolves, TPUs have no float64, and a jitted `eigh` costs
more to compile than all of these take to run. Leading axes are batch axes throughout.
"""

from typing import NamedTuple

import numpy as np

# Penalties tried by leave-one-out, relative to the mean diagonal of the centred kernel.
RELATIVE_GRID = np.append(np.geomspace(1e-4, 1e4, 49), np.inf)


class CentredKernel(NamedTuple):
    """Eigendecomposition of H K H, and what centring a new row of K needs."""

    values: np.ndarray  # float64[..., A], >= 0
    vectors: np.ndarray  # float64[..., A, A], eigenvectors in the columns
    row_means: np.ndarray  # float64[..., A], K 1/A

    @property
    def mean_diagonal(self) -> np.ndarray:
        """float64[...], trace(H K H) / A; 1 for a kernel that is zero."""
        mean = self.values.mean(-1)
        return np.where(mean > 0, mean, 1.0)


def centre(kernel: np.ndarray) -> CentredKernel:
    """Centres and decomposes a kernel, float64[..., A, A]."""
    row_means = kernel.mean(-1)
    centred = kernel - row_means[..., None] - row_means[..., None, :]
    centred = centred + row_means.mean(-1)[..., None, None]
    values, vectors = np.linalg.eigh((centred + np.swapaxes(centred, -1, -2)) / 2)
    return CentredKernel(np.maximum(values, 0.0), vectors, row_means)


def weights(kernel: CentredKernel, cross: np.ndarray, ridge_lambda: np.ndarray) -> np.ndarray:
    """Returns the anchors' weights for a query, float64[..., A]; they sum to 1.

    Args:
      kernel: of the anchors, batch axes [...].
      cross: float64[..., A], the query's kernel row k*.
      ridge_lambda: float64[...], penalties > 0, infinity included.

    Source: Saunders, Gammerman, Vovk 1998, with the intercept profiled out.
    """
    row = cross - kernel.row_means
    row = row - row.mean(-1, keepdims=True)
    shrunk = np.einsum('...ij,...i->...j', kernel.vectors, row)
    shrunk = shrunk / (kernel.values + np.asarray(ridge_lambda)[..., None])
    return 1.0 / row.shape[-1] + np.einsum('...ij,...j->...i', kernel.vectors, shrunk)


def leave_one_out(kernel: CentredKernel, ridge_lambda: np.ndarray) -> np.ndarray:
    """Returns the weights that predict each anchor from the others, float64[..., A, A].

    Row i sums to 1 and has a zero at i: it is what refitting without anchor i would give for
    it, from one decomposition. With S the smoother of the fit, intercept included, the
    left-out residual is (y - S y)_i / (1 - S_ii).

    Args:
      kernel: of all anchors, batch axes [...].
      ridge_lambda: float64[...], penalties > 0, infinity included.

    Source: Cook 1977 (deletion residuals); Golub, Heath, Wahba 1979, section 1.
    """
    anchors = kernel.values.shape[-1]
    kept = 1.0 / (1.0 + kernel.values / np.asarray(ridge_lambda)[..., None])
    residual = np.einsum('...ij,...j,...kj->...ik', kernel.vectors, kept, kernel.vectors)
    residual = residual - 1.0 / anchors  # the intercept fits constants exactly
    if anchors == 1:
        return np.zeros_like(residual)
    leverage_gap = np.einsum('...ii->...i', residual)
    return np.eye(anchors) - residual / leverage_gap[..., None]


def mean_leave_one_out(anchors: int) -> np.ndarray:
    """Returns the leave-one-out weights of the mean, float64[A, A]; zero for one anchor."""
    return (np.ones((anchors, anchors)) - np.eye(anchors)) / max(anchors - 1, 1)


def loo_r2(loo_weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns 1 - left-out squared error / that of the mean of the other anchors.

    Each anchor's error is divided by its own squared norm, so that anchors with long training,
    and large updates, do not decide alone. 0 is as good as the mean, 1 is perfect.

    Args:
      loo_weights: float64[..., G, A, A], row i predicts anchor i.
      target: float64[G, A, A], inner products of the anchors' targets in each group.

    Returns:
      float64[...]; 0 if there is a single anchor.
    """
    anchors = target.shape[-1]
    if anchors == 1:
        return np.zeros(loo_weights.shape[:-3])
    norms = anchor_norms(target)

    def error(rows: np.ndarray) -> np.ndarray:
        left_out = np.eye(anchors) - rows
        squared = np.einsum('...gij,gjk,...gik->...i', left_out, target, left_out, optimize=True)
        return (squared / norms).mean(-1)

    reference = error(np.broadcast_to(mean_leave_one_out(anchors), target.shape))
    return 1.0 - error(loo_weights) / np.where(reference > 0, reference, 1.0)


def anchor_norms(target: np.ndarray) -> np.ndarray:
    """Returns float64[A], squared norms over all groups of float64[G, A, A]; 1 where zero."""
    norms = np.einsum('gii->i', target)
    return np.where(norms > 0, norms, 1.0)


def stabilised(kernel: np.ndarray) -> np.ndarray:
    """Adds 1e-9 of the mean diagonal to float64[..., A, A], so equal anchors can be solved."""
    diagonal = np.einsum('...ii->...', kernel) / kernel.shape[-1]
    shift = 1e-9 * np.where(diagonal > 0, diagonal, 1.0)
    return kernel + shift[..., None, None] * np.eye(kernel.shape[-1])


def choose_penalty(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Chooses the penalty by leave-one-out, the same relative one for all groups.

    Args:
      source: float64[G, A, A], kernels between anchors, one per group of target tensors.
      target: float64[G, A, A], inner products of the anchors' targets in that group.

    Returns:
      float64[G] penalties, absolute: the chosen member of `RELATIVE_GRID` times the mean
      diagonal of each centred kernel. The grid holds infinity, which is the mean: it is chosen
      if no finite penalty is better, or if there are too few anchors to tell.
    """
    kernel = centre(source)
    grid = RELATIVE_GRID[:, None] * kernel.mean_diagonal
    if source.shape[-1] < 3:
        return grid[-1]
    scores = [loo_r2(leave_one_out(kernel, row), target) for row in grid]
    return grid[len(grid) - 1 - int(np.argmax(scores[::-1]))]  # ties: the larger penalty
