"""How good a mapping is, measured on its anchors alone.

All scores of all methods are taken in the space of updates (Delta-W), whatever space a method
works in, so that they can be compared. Each tensor counts alike: its Gram matrix is divided by
its mean diagonal.

An anchor's prediction comes from the other anchors; numbers such as penalties are chosen on all.
"""

import jax
import numpy as np

from lorajax.mapping import gram, ridge
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.compiling import quick_jit
from lorajax.types import Array, JsonDict

# Values of `validation` in a mapping's diagnostics: how its anchors were kept from predicting
# themselves. `stacking` adds the number of folds of a bilinear map.
LEAVE_ONE_OUT = 'leave-one-out'
NO_ANCHOR_NEEDED = 'the anchors had no part in the mapping'


def update_products(loo_weights: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores left-out predictions that are weighted sums of updates.

    Args:
      loo_weights: float64[P, A, A], row i predicts anchor i.
      target: float64[P, A, A], inner products of the anchors' updates.

    Returns:
      float64[P, A] <prediction_i, truth_i> and float64[P, A] |prediction_i|^2.
    """
    weighted = np.einsum('pij,pjk->pik', loo_weights, target)
    return np.einsum('pii->pi', weighted), np.einsum('pik,pik->pi', weighted, loo_weights)


def factor_products(loo_weights: np.ndarray, anchors: Anchors) -> tuple[np.ndarray, np.ndarray]:
    """Scores left-out predictions that are products of weighted sums of factors.

    Args:
      loo_weights: float64[P, A, A], row i predicts anchor i.
      anchors: of the target.

    Returns:
      As `update_products`.
    """
    pairs = [
        _factor_products(rows, *blocks)
        for rows, blocks in zip(loo_weights.astype(np.float32), anchors.blocks, strict=True)
    ]
    products, norms = (np.asarray(part, np.float64) for part in zip(*pairs, strict=True))
    return products, norms


@quick_jit()
def _factor_products(rows: Array, inner: Array, outer: Array) -> tuple[jax.Array, jax.Array]:
    """One tensor of `factor_products`, from the arrays of `gram.block_grams`."""
    with_truth = [gram.einsum('it,irtq->irq', rows, block) for block in (inner, outer)]
    with_self = [gram.einsum('is,it,srtq->irq', rows, rows, block) for block in (inner, outer)]
    return tuple((x * y).sum((1, 2)) for x, y in (with_truth, with_self))  # type: ignore


def report(products: np.ndarray, norms: np.ndarray, target: np.ndarray) -> JsonDict:
    """Summarises left-out predictions against the left-out mean update.

    Args:
      products: float64[P, A], <prediction_i, truth_i>.
      norms: float64[P, A], |prediction_i|^2.
      target: float64[P, A, A], inner products of the anchors' updates.

    Returns:
      loo_r2: 1 - squared error / squared error of the mean of the other anchors, each
        anchor's error relative to its own norm; 0 is as good as the mean, 1 perfect.
      loo_cosine, loo_norm_ratio: means over anchors, prediction against truth.
      loo_r2_by_anchor: list, anchors in sorted order.
    """
    anchors = target.shape[-1]
    if anchors == 1:
        return {'loo_r2': None, 'loo_cosine': None, 'loo_norm_ratio': None, 'loo_r2_by_anchor': []}
    scaled = target / gram.trace_scales(target)[:, None, None]
    mean_rows = np.broadcast_to(ridge.mean_leave_one_out(anchors), target.shape)
    mean_error = _relative_error(*update_products(mean_rows, scaled), scaled)
    scales = gram.trace_scales(target)[:, None]
    products, norms = products / scales, norms / scales
    error = _relative_error(products, norms, scaled)
    truth = np.einsum('pii->i', scaled)
    overlap, length = products.sum(0), norms.sum(0)
    cosine = overlap / np.sqrt(np.where(length * truth > 0, length * truth, 1.0))
    ratio = np.sqrt(length / np.where(truth > 0, truth, 1.0))
    by_anchor = 1.0 - error / np.where(mean_error > 0, mean_error, 1.0)
    return {
        'loo_r2': float(1.0 - error.mean() / (mean_error.mean() or 1.0)),
        'loo_cosine': float(cosine.mean()),
        'loo_norm_ratio': float(ratio.mean()),
        'loo_r2_by_anchor': by_anchor.tolist(),
    }


def _relative_error(products: np.ndarray, norms: np.ndarray, target: np.ndarray) -> np.ndarray:
    """|prediction_i - truth_i|^2 / |truth_i|^2 over all tensors, float64[A]."""
    truth = np.einsum('pii->i', target)
    squared = truth - 2.0 * products.sum(0) + norms.sum(0)
    return squared / np.where(truth > 0, truth, 1.0)


def span_distance(kernel: Array, cross: Array, own: Array) -> float:
    """Returns the share of a query's norm outside the span of the anchors, in [0, 1].

    Args:
      kernel: float64[G, A, A], inner products of anchors.
      cross: float64[G, A], of the query with them.
      own: float64[G], of the query with itself.
    """
    kernel, cross, own = np.asarray(kernel), np.asarray(cross), np.asarray(own)
    solved = gram.solve(gram.stabilised(kernel), cross[..., None])[..., 0]
    outside = own.sum() - np.einsum('ga,ga->', cross, solved)
    return float(np.sqrt(np.clip(outside / (own.sum() or 1.0), 0.0, 1.0)))


def anchor_span_distances(kernel: Array) -> list[float]:
    """Returns each anchor's distance to the span of the others, as `span_distance`.

    Uses the Schur complement: K_ii - k_i^T K_-i^-1 k_i = 1 / (K^-1)_ii.
    """
    kernel = np.asarray(kernel)
    identity = np.broadcast_to(np.eye(kernel.shape[-1]), kernel.shape)
    inverse = gram.solve(gram.stabilised(kernel), identity)
    outside = (1.0 / np.einsum('gii->gi', inverse)).sum(0)
    own = np.einsum('gii->i', kernel)
    return np.sqrt(np.clip(outside / np.where(own > 0, own, 1.0), 0.0, 1.0)).tolist()
