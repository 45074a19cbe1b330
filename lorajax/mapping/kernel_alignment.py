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
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize

from lorajax.mapping import gram, ridge, scores
from lorajax.mapping.anchor_weights import Weighed, Weighing
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.options import Options
from lorajax.mapping.subspace import Tensors
from lorajax.types import Adapter, JsonDict

# Penalties tried by leave-one-out, relative to the mean diagonal of the mixed kernel.
_GRID = np.geomspace(0.01, 3.0, 16)
# Layers of a projection are pooled into at most this many bands: more kernels than pairs of
# anchors can tell apart only cost time.
_MAX_BANDS = 8
# Penalty on the mixture, relative to the mean squared length of the kernels over pairs. Scores
# of the toy worlds do not change between 0.1 and 1.
_MIXTURE_PENALTY = 0.09


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
        scale = np.where(scale > 1e-12, scale, 1.0)
        anchors.append(centred / scale[:, None, None])
        rows.append(row / scale[:, None])
    count = cosines.shape[-1]
    anchors.append(np.ones((1, count, count)))
    rows.append(np.ones((1, count)))
    return Kernels(np.concatenate(anchors), np.concatenate(rows))


def match(kernels: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the mixture of kernels that explains each target, by non-negative least squares.

    Args:
      kernels: float64[F, A, A].
      targets: float64[Y, A, A], cosines of the target's anchors.

    Returns:
      float64[Y, F], >= 0. The diagonals have no part in it: every anchor is like itself.

    Source: Lawson and Hanson 1974 (the solver); see the module docstring for the idea.
    """
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


def mixture_weights(kernels: Kernels, mixture: np.ndarray, penalty: float) -> np.ndarray:
    """Returns weights float64[Y, A] of anchors of norm 1, by ridge with the mixed kernels.

    Args:
      kernels: of the anchors and the query.
      mixture: float64[Y, F].
      penalty: relative to the mean diagonal of each mixed kernel.
    """
    count = kernels.query.shape[-1]
    mixed = np.tensordot(mixture, kernels.anchors, 1)
    scale = np.einsum('yaa->y', mixed) / count
    shift = np.where(scale > 0, penalty * scale, 1.0)[:, None, None] * np.eye(count)
    return np.linalg.solve(mixed + shift, (mixture @ kernels.query)[..., None])[..., 0]


@dataclasses.dataclass(frozen=True)
class Matched:
    """The weigher of this module; see `weighing.Weigher`.

    Squared error in weight space, by which leave-one-out chooses a penalty, prefers
    predictions that are shorter than those which work best in the model. So both the penalty
    and the length can be fixed instead.

    Attributes:
      penalty: relative to the mean diagonal of the mixed kernels; None for leave-one-out.
      norm_share: if left-out predictions are shorter than this share of what they predict,
        all predictions are lengthened to it; 0 for never.
    """

    penalty: float | None = None
    norm_share: float = 0.0

    space = 'delta'

    def fit_weighing(self, source: Anchors, target: Anchors, options: Options) -> Weighing:
        """Learns the mixtures on all anchors, and on all but each one to score and choose."""
        bands = band_matrix(source.tensors)
        cosines = np.einsum('bx,kxst->kbst', bands, source.cosines)
        targets, lengths = target.cosines[0], np.sqrt(np.einsum('ytt->yt', target.delta_gram))
        count = len(source)
        folds = [_fold(cosines, targets, i) for i in range(count if count > 2 else 0)]

        def left_out(penalty: float) -> np.ndarray:
            rows = np.zeros(targets.shape)
            for i, (others, kernels, mixture) in enumerate(folds):
                weights = mixture_weights(kernels, mixture, penalty)
                rows[:, i, others] = _of_norm(weights, lengths[:, others])
            return rows

        scaled = target.delta_gram / gram.trace_scales(target.delta_gram)[:, None, None]
        mixture = match(make_kernels(cosines, cosines[..., 0, :]).anchors, targets)
        arrays = {
            'bands': bands,
            'cosines': cosines,
            'updates': source.cosines[0],
            'mixture': mixture,
            'lengths': lengths,
        }
        fixed = options.ridge_lambda or self.penalty
        grid = [fixed] if fixed else list(_GRID)
        trials = [float(ridge.loo_r2(left_out(g), scaled)) for g in grid] if folds else [0.0]
        best = int(np.argmax(trials))
        info: JsonDict = {
            'anchor_span_distances': scores.anchor_span_distances(source.cosines[0]),
            'kernel_shares': _shares(mixture),
        }
        if trials[best] <= 0 and fixed is None:
            rows = np.broadcast_to(ridge.mean_leave_one_out(count), targets.shape)
            arrays['penalty'] = np.array([np.inf])
            return Weighing(arrays, {**info, 'ridge_lambda': None, 'fallback': 'mean'}, rows)
        arrays['penalty'] = np.array([grid[best]])
        rows = left_out(grid[best])
        scale = self._scale(rows, target)
        arrays['scale'] = np.array([scale])
        info |= {
            'ridge_lambda_relative': float(grid[best]),
            'fallback': None,
            'scale': scale,
        }
        return Weighing(arrays, info, scale * rows)

    def _scale(self, rows: np.ndarray, target: Anchors) -> float:
        """What lengthens left-out predictions to `norm_share` of the truth, at least 1."""
        if not self.norm_share or len(target) < 3:
            return 1.0
        products = scores.update_products(rows, target.delta_gram)
        ratio = scores.report(*products, target.delta_gram)['loo_norm_ratio']
        return max(1.0, self.norm_share / ratio) if ratio > 0 else 1.0

    def weigh(
        self, arrays: Mapping[str, np.ndarray], source: Anchors, queries: Sequence[Adapter]
    ) -> list[Weighed]:
        """See `Weigher`."""
        penalty, lengths = arrays['penalty'].item(), arrays['lengths']
        results = []
        for rows in source.query_cosines(queries):
            distance = scores.span_distance(arrays['updates'], rows[0], np.ones(rows.shape[1]))
            banded = np.einsum('bx,kxt->kbt', arrays['bands'], rows)
            kernels = make_kernels(arrays['cosines'], banded)
            if np.isinf(penalty):
                weights = np.full(lengths.shape, 1.0 / lengths.shape[1])
            else:
                weights = mixture_weights(kernels, arrays['mixture'], penalty)
                weights = _of_norm(weights, lengths) * arrays['scale'].item()
            results.append(Weighed(weights, distance, rows[0].mean(0)))
        return results


def _fold(
    cosines: np.ndarray, targets: np.ndarray, left_out: int
) -> tuple[np.ndarray, Kernels, np.ndarray]:
    """The other anchors, their kernels with the left-out one as query, and their mixture."""
    others = np.delete(np.arange(targets.shape[-1]), left_out)
    pairs = np.ix_(others, others)
    kernels = make_kernels(cosines[..., pairs[0], pairs[1]], cosines[:, :, left_out][..., others])
    return others, kernels, match(kernels.anchors, targets[:, pairs[0], pairs[1]])


def _of_norm(weights: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Turns weights of anchors of norm 1 into weights of anchors as they are, float64[Y, A].

    The result has the scale of a mean anchor: what a query's norm says about the norm of its
    counterpart is not used.
    """
    lengths = np.where(lengths > 0, lengths, 1.0)
    return weights / lengths * lengths.mean(-1, keepdims=True)


def _shares(mixture: np.ndarray) -> dict[str, float]:
    """Mean share of each kind of kernel in the mixtures."""
    bands = mixture.shape[1] // 3
    names = ('update', 'outputs', 'inputs')
    sums = {n: mixture[:, i * bands : (i + 1) * bands].sum() for i, n in enumerate(names)}
    sums['constant'] = mixture[:, -1].sum()
    total = sum(sums.values()) or 1.0
    return {name: float(value / total) for name, value in sums.items()}
