"""Weights from kernels that learn which source tensors a target tensor resembles.

Two models divide the work among their layers differently: what the first MLP of one does to a
task, a late attention layer of the other may do. So tensors are not paired by name and depth.
For every target tensor y the inner products of the target's anchors are explained by a
mixture of source kernels,

  K_y(s, t) ~ sum_f m_yf k_f(s, t)   over pairs s < t of anchors,   m >= 0,

by non-negative least squares; then the anchors' weights for a query are those of kernel ridge
with the mixture: w = (K + lambda I)^-1 k*, without intercept. Anchors that resemble the query
where it matters to y get the weight in y.

Source kernels, for each projection and band of layers: the cosine of the updates X themselves,
and the cosines of their second moments X^T X and X X^T. The latter compare which outputs and
which inputs an update touches, whatever its sign, and with them adapters that started from
different random factors a can be compared. Second moments all point the same way, so they
are centred; a constant kernel gives the mean of the anchors back where the targets share one.

This method is our own; it is kernel target alignment (Cristianini et al. 2001; Cortes, Mohri,
Rostamizadeh 2012, algorithm "align") with the second model's geometry as the target.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import chex
import numpy as np
import scipy.linalg
import scipy.optimize

from lorajax.mapping import gram, ridge, scores
from lorajax.mapping.anchor_weights import AnchorWeights, FittedWeights
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.float64 import on_host
from lorajax.mapping.layout import Leaves, flags, numbers
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.subspace import Tensors
from lorajax.types import JsonDict

_loo_r2 = on_host(ridge.loo_r2)

# Layers of a projection are pooled into at most this many bands: more kernels than pairs of
# anchors can tell apart only cost time.
_MAX_BANDS = 8
# Penalty on the mixture, relative to the mean squared length of the kernels over pairs. Scores
# of the toy worlds do not change between 0.1 and 1.
_MIXTURE_PENALTY = 0.09
# Spread of second moments, in cosines, that is the rounding of float32: so it is where all anchors
# share their one direction, rank 1 with a frozen factor a. Scaled up it would be a kernel of noise.
_LEAST_SPREAD = 1e-5


class Kernels(NamedTuple):
    """F kernels between A anchors, and between them and a query."""

    anchors: np.ndarray  # float64[F, A, A]
    query: np.ndarray  # float64[F, A]


def band_matrix(tensors: Tensors) -> np.ndarray:
    """Returns float64[bands, X], means over neighbouring layers of each projection."""
    rows = []
    for projection in dict.fromkeys(name for name, _ in tensors):
        columns = [x for x, (name, _) in enumerate(tensors) if name == projection]
        for band in np.array_split(columns, min(_MAX_BANDS, len(columns))):
            row = np.zeros(len(tensors))
            row[band] = 1.0 / len(band)
            rows.append(row)
    return np.stack(rows)


def make_kernels(cosines: np.ndarray, query: np.ndarray) -> Kernels:
    """Centres and scales second-moment kernels and adds a constant one.

    Args:
      cosines: float64[3, B, A, A], of updates, output sides, input sides in B bands.
      query: float64[3, B, A], of a query with the anchors.

    Returns:
      The kernels, F = 3 B + 1, the constant one last.
    """
    anchors, rows = [cosines[0]], [query[0]]
    for side in (1, 2):
        means = cosines[side].mean(-1)
        overall = means.mean(-1)[:, None]
        centred = cosines[side] - means[:, :, None] - means[:, None] + overall[..., None]
        row = query[side] - query[side].mean(-1, keepdims=True) - means + overall
        scale = np.einsum('baa->b', centred) / means.shape[-1]
        scale = np.where(scale > _LEAST_SPREAD, scale, 1.0)
        anchors.append(centred / scale[:, None, None])
        rows.append(row / scale[:, None])
    count = cosines.shape[-1]
    anchors.append(np.ones((1, count, count)))
    rows.append(np.ones((1, count)))
    return Kernels(np.concatenate(anchors), np.concatenate(rows))


def fit_mixture(kernels: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the mixture of kernels that explains each target, by non-negative least squares.

    Args:
      kernels: float64[F, A, A].
      targets: float64[Y, A, A], cosines of the target's anchors.

    Returns:
      float64[Y, F], >= 0. The diagonals have no part in it: every anchor is like itself.

    Source: Lawson and Hanson 1974 (the solver); see the module docstring for the idea.
    """
    chex.assert_shape([kernels, targets], (None, kernels.shape[-1], kernels.shape[-1]))
    pairs = np.triu_indices(kernels.shape[-1], 1)
    if not len(pairs[0]):
        return np.zeros((len(targets), len(kernels)))
    features = kernels[:, pairs[0], pairs[1]]
    normal = features @ features.T
    penalty = _MIXTURE_PENALTY * np.trace(normal) / len(normal)
    root = scipy.linalg.cholesky(normal + penalty * np.eye(len(normal)))
    right = features @ targets[:, pairs[0], pairs[1]].T
    sides = scipy.linalg.solve_triangular(root, right, trans='T')
    return np.stack([scipy.optimize.nnls(root, side)[0] for side in sides.T])


class Penalty(NamedTuple):
    """What is added to the diagonal of every mixed kernel.

    value: > 0. is_relative: whether it is a multiple of the kernel's mean diagonal.
    """

    value: float
    is_relative: bool


# Penalties tried by leave-one-out.
_GRID = [Penalty(value, is_relative=True) for value in np.geomspace(0.01, 3.0, 16).tolist()]


def mixture_weights(kernels: Kernels, mixture: np.ndarray, penalty: Penalty) -> np.ndarray:
    """Returns weights float64[Y, A] of anchors of norm 1, by ridge with the mixed kernels.

    Args:
      kernels: of the anchors and the query.
      mixture: float64[Y, F].
      penalty: lambda; a kernel that is zero gets 1 for it.
    """
    chex.assert_shape(mixture, (None, len(kernels.query)))
    count = kernels.query.shape[-1]
    mixed = np.tensordot(mixture, kernels.anchors, 1)
    scale = np.einsum('yaa->y', mixed) / count
    shift = penalty.value * (scale if penalty.is_relative else np.ones_like(scale))
    shift = np.where(scale > 0, shift, 1.0)[:, None, None] * np.eye(count)
    return gram.solve(mixed + shift, (mixture @ kernels.query)[..., None])[..., 0]


# Of the arrays that `KernelAlignment` keeps.
LAYOUT: Leaves = {
    'bands': numbers('B X'),
    'cosines': numbers('3 B A A'),
    'updates': numbers('X A A'),
    'mixture': numbers('P 3B+1'),
    'lengths': numbers('P A'),
    'penalty': numbers('1', 'inf'),
    'penalty_is_relative': flags('1'),
    'scale': numbers('1'),
}


@dataclasses.dataclass(frozen=True)
class KernelAlignment:
    """The weighting of this module; see `anchor_weights.AnchorWeighting`.

    Squared error in weight space, by which leave-one-out chooses a penalty, prefers
    predictions that are shorter than those which work best in the model. So both the penalty
    and the length can be fixed instead. Where no penalty predicts left-out anchors better than
    their mean does, or there are too few anchors to leave one out, the mean is taken, and the
    diagnostics say so.

    Attributes:
      relative_penalty: over the mean diagonal of the mixed kernels; None for leave-one-out.
      norm_share: if left-out predictions are shorter than this share of what they predict,
        all predictions are lengthened to it; 0 for never.
    """

    relative_penalty: float | None = None
    norm_share: float = 0.0

    space = 'delta'
    layout = LAYOUT

    def fit(self, source: Anchors, target: Anchors, options: Options) -> FittedWeights:
        """Learns the mixtures on all anchors, and on all but each one to score and choose."""
        bands = band_matrix(source.tensors)
        cosines = np.einsum('bx,kxst->kbst', bands, source.cosines)
        targets, lengths = target.cosines[0], np.sqrt(np.einsum('ytt->yt', target.delta_gram))
        count = len(source)
        folds = [_fold(cosines, targets, i) for i in range(count if count > 2 else 0)]

        def left_out(penalty: Penalty) -> np.ndarray:
            rows = np.zeros(targets.shape)
            for i, (others, kernels, mixture) in enumerate(folds):
                weights = mixture_weights(kernels, mixture, penalty)
                rows[:, i, others] = _of_norm(weights, lengths[:, others])
            return rows

        kernels = make_kernels(cosines, cosines[..., 0, :])
        mixture = fit_mixture(kernels.anchors, targets)
        arrays = {
            'bands': bands,
            'cosines': cosines,
            'updates': source.cosines[0],
            'mixture': mixture,
            'lengths': lengths,
        }
        scaled = target.delta_gram / gram.trace_scales(target.delta_gram)[:, None, None]
        means = np.broadcast_to(ridge.mean_leave_one_out(count), targets.shape)

        def best_of(grid: list[Penalty]) -> tuple[float, Penalty, np.ndarray]:
            trials = np.stack([left_out(penalty) if folds else means for penalty in grid])
            r2 = _loo_r2(trials, scaled) if folds else np.zeros(len(grid))
            best = int(np.argmax(r2))
            return float(r2[best]), grid[best], trials[best]

        r2, penalty, rows = best_of(self._grid(options))
        if r2 <= 0 and self.relative_penalty is not None:  # does any other find something?
            r2, *_ = best_of(_GRID)
        info: JsonDict = {
            'anchor_span_distances': scores.anchor_span_distances(source.cosines[0]),
            'kernel_shares': _shares(mixture),
        }
        if r2 <= 0 and options.ridge_lambda is None:
            rows = means
            arrays |= _fixed(Penalty(np.inf, is_relative=True), 1.0)
            info |= {'ridge_lambda': None, 'ridge_lambda_relative': None, 'fallback': 'mean'}
            return FittedWeights(arrays, info, rows)
        scale = self._scale(rows, target)
        arrays |= _fixed(penalty, scale)
        info |= {**_describe(penalty, kernels, mixture), 'fallback': None, 'scale': scale}
        return FittedWeights(arrays, info, scale * rows)

    def _grid(self, options: Options) -> list[Penalty]:
        """Returns the penalties to choose from."""
        if options.ridge_lambda is not None:
            return [Penalty(options.ridge_lambda, is_relative=False)]
        if self.relative_penalty is not None:
            return [Penalty(self.relative_penalty, is_relative=True)]
        return _GRID

    def _scale(self, rows: np.ndarray, target: Anchors) -> float:
        """What lengthens left-out predictions to `norm_share` of the truth, at least 1."""
        if not self.norm_share or len(target) < 3:
            return 1.0
        products = scores.update_products(rows, target.delta_gram)
        ratio = scores.report(*products, target.delta_gram)['loo_norm_ratio']
        return max(1.0, self.norm_share / ratio) if ratio > 0 else 1.0

    def weights(
        self, arrays: Mapping[str, np.ndarray], source: Anchors, queries: Queries
    ) -> list[AnchorWeights]:
        """See `AnchorWeighting`."""
        value, lengths = arrays['penalty'].item(), arrays['lengths']
        results = []
        for rows, own in zip(*queries.cosines(source), strict=True):
            distance = scores.span_distance(arrays['updates'], rows[0], own)
            if np.isinf(value):
                weights = np.full(lengths.shape, 1.0 / lengths.shape[1])
            else:
                banded = np.einsum('bx,kxt->kbt', arrays['bands'], rows)
                kernels = make_kernels(arrays['cosines'], banded)
                penalty = Penalty(value, bool(arrays['penalty_is_relative'].item()))
                weights = mixture_weights(kernels, arrays['mixture'], penalty)
                weights = _of_norm(weights, lengths) * arrays['scale'].item()
            results.append(AnchorWeights(weights, distance, rows[0].mean(0)))
        return results


def _fixed(penalty: Penalty, scale: float) -> dict[str, np.ndarray]:
    """Returns a penalty and a scale as arrays."""
    return {
        'penalty': np.array([penalty.value]),
        'penalty_is_relative': np.array([penalty.is_relative]),
        'scale': np.array([scale]),
    }


def _describe(penalty: Penalty, kernels: Kernels, mixture: np.ndarray) -> JsonDict:
    """A penalty both ways: absolute, and over the mixed kernels' mean diagonal (medians)."""
    diagonals = np.einsum('faa->f', kernels.anchors) / kernels.anchors.shape[-1]
    scale = float(np.median(mixture @ diagonals)) or 1.0
    factors = (scale, 1.0) if penalty.is_relative else (1.0, 1.0 / scale)
    return {
        'ridge_lambda': penalty.value * factors[0],
        'ridge_lambda_relative': penalty.value * factors[1],
    }


def _fold(
    cosines: np.ndarray, targets: np.ndarray, left_out: int
) -> tuple[np.ndarray, Kernels, np.ndarray]:
    """The other anchors, their kernels with the left-out one as query, and their mixture."""
    others = np.delete(np.arange(targets.shape[-1]), left_out)
    pairs = np.ix_(others, others)
    kernels = make_kernels(cosines[..., pairs[0], pairs[1]], cosines[:, :, left_out][..., others])
    return others, kernels, fit_mixture(kernels.anchors, targets[:, pairs[0], pairs[1]])


def _of_norm(weights: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Turns weights of anchors of norm 1 into weights of anchors as they are, float64[Y, A].

    The result has the scale of a mean anchor, of those whose tensor is not zero: what a query's
    norm says about the norm of its counterpart is not used.
    """
    is_zero = lengths == 0
    mean = lengths.sum(-1, keepdims=True) / np.maximum(np.sum(~is_zero, -1, keepdims=True), 1)
    return weights * mean / np.where(is_zero, 1.0, lengths)


def _shares(mixture: np.ndarray) -> dict[str, float]:
    """Mean share of each kind of kernel in the mixtures."""
    bands = mixture.shape[1] // 3
    names = ('update', 'outputs', 'inputs')
    sums = {n: mixture[:, i * bands : (i + 1) * bands].sum() for i, n in enumerate(names)}
    sums['constant'] = mixture[:, -1].sum()
    total = sum(sums.values()) or 1.0
    return {name: float(value / total) for name, value in sums.items()}
