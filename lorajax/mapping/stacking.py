"""Stacked methods, with coefficients that left-out predictions of the anchors decide.

The parts are weighted combinations of the anchors (`anchor_weights`) and the bilinear map
(`bilinear_part`), which leaves their span. All of them predict updates, so a combination is one
too, and is truncated once. Coefficients are >= 0 and minimise the left-out squared error, each
anchor relative to its own norm (stacked regression: Wolpert 1992; Breiman 1996).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.optimize

from lorajax.mapping import bilinear_part, gram, scores
from lorajax.mapping.anchor_weights import AnchorWeighting, AnchorWeights
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.bilinear_part import BilinearPart
from lorajax.mapping.combination import describe_size, describe_weights
from lorajax.mapping.layout import Layout, Leaf, numbers, prefixed
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.state import MappingState, Prediction, require
from lorajax.mapping.subspace import assemble, leading_factors, weighted_core
from lorajax.types import JsonDict


@dataclasses.dataclass(frozen=True)
class Stacking:
    """Which parts are combined.

    Attributes:
      weightings: by name; all of the 'delta' space.
      has_bilinear: whether the bilinear map is a part.
    """

    weightings: Mapping[str, AnchorWeighting]
    has_bilinear: bool

    @property
    def layout(self) -> Layout:
        """Of the fitted mapping."""
        count = len(self.weightings) + self.has_bilinear
        arrays: dict[str, Leaf] = {'coefficients': numbers(str(count))}
        for name, weighting in self.weightings.items():
            arrays |= prefixed(f'{name}/', weighting.layout)
        parts = ['frame', *(['source'] if self.weightings else [])]
        if not self.has_bilinear:
            return Layout(arrays, tuple(parts))
        return Layout(arrays, (*parts, 'source_frame'), bilinear_part.LAYOUT)

    def fit(self, source: Anchors, target: Anchors, options: Options) -> MappingState:
        """Fits the parts and their coefficients.

        Raises:
          InputError: if an anchor holds NaN or infinity, or the bilinear map is asked for a
            projection that the source lacks.
        """
        fits = {
            name: weighting.fit(source, target, options)
            for name, weighting in self.weightings.items()
        }
        part = bilinear_part.fit(source, target, options) if self.has_bilinear else None
        rows = [fit.left_out for fit in fits.values()]
        grams, truths = _part_products(rows, part, target.delta_gram)
        coefficients = _stack(grams, truths, target.delta_gram)
        if not rows:
            coefficients = np.ones(1)
        names = [*fits, *(['bilinear'] if part else [])]
        norms = np.einsum('c,pacd,d->pa', coefficients, grams, coefficients)
        parts = {name: fit.info for name, fit in fits.items()}
        if part:
            parts['bilinear'] = part.info
        info: JsonDict = {
            'coefficients': dict(zip(names, coefficients.tolist(), strict=True)),
            'parts': parts,
            'validation': _validation(len(source), part),
            **scores.report(truths @ coefficients, norms, target.delta_gram),
            'mean_anchor_norm': target.mean_norm,
        }
        arrays = {'coefficients': coefficients}
        for name, fit in fits.items():
            arrays |= {f'{name}/{key}': value for key, value in fit.arrays.items()}
        return MappingState(
            target.tensors,
            arrays,
            info,
            per_tensor=part.per_tensor if part else [],
            source=source if fits else None,
            frame=target.frame,
            source_frame=part.source_frame if part else None,
        )

    def predict(self, state: MappingState, queries: Queries, output_rank: int) -> list[Prediction]:
        """Translates checked adapters; see `combination.predict`."""
        frame = require(state.frame)
        weighted = self._weights(state, queries)
        reduced = {}
        if self.has_bilinear:
            reduced = bilinear_part.reduce_queries(require(state.source_frame), queries)
        share = float(state.arrays['coefficients'][-1])
        parts = []
        for index, basis in enumerate(frame.bases):
            cores = np.zeros((len(queries), basis.a.shape[1], basis.b.shape[2]), np.float32)
            if weighted:
                rows = np.stack([one.weights[index] for one in weighted]).astype(np.float32)
                cores += weighted_core(basis.a, basis.b, rows)
            if self.has_bilinear:
                projection, _ = state.tensors[index]
                arrays = state.per_tensor[index]
                cores += share * bilinear_part.predict_cores(arrays, projection, reduced)
            parts.append(leading_factors(cores, basis.q_in, basis.q_out, output_rank))
        reports: list[JsonDict] = [{} for _ in queries.names]
        if weighted:
            tasks = require(state.source).tasks
            reports = [describe_weights(one, tasks) for one in weighted]
        return [
            Prediction(adapter, {**report, **describe_size(adapter, lost, state.info)})
            for report, (adapter, lost) in zip(reports, assemble(state.tensors, parts), strict=True)
        ]

    def _weights(self, state: MappingState, queries: Queries) -> list[AnchorWeights]:
        """Adds up the weights of the parts that weight anchors; [] if there are none.

        The rest is the first part's, as in `model_card.anchor_distances`.
        """
        total: list[AnchorWeights] = []
        for (name, weighting), share in zip(
            self.weightings.items(), state.arrays['coefficients'].tolist(), strict=False
        ):
            arrays = {
                key.removeprefix(f'{name}/'): value
                for key, value in state.arrays.items()
                if key.startswith(f'{name}/')
            }
            part = [
                one._replace(weights=share * one.weights)
                for one in weighting.weights(arrays, require(state.source), queries)
            ]
            total = (
                [
                    before._replace(weights=before.weights + one.weights)
                    for one, before in zip(part, total, strict=True)
                ]
                if total
                else part
            )
        return total


def _validation(anchors: int, part: BilinearPart | None) -> str:
    """Says how anchors were kept from predicting themselves."""
    if part is None or part.info['folds'] == anchors:
        return scores.LEAVE_ONE_OUT
    own = f'{part.info["folds"]}-fold'
    return f'{own} for the bilinear part, {scores.LEAVE_ONE_OUT} for the others'


def _part_products(
    rows: Sequence[np.ndarray], part: BilinearPart | None, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inner products between the parts' left-out predictions, and with the truth.

    Returns:
      float64[P, A, C, C] and float64[P, A, C].
    """
    count = len(rows) + (part is not None)
    tensors, anchors, _ = target.shape
    grams, truths = np.zeros((tensors, anchors, count, count)), np.zeros((tensors, anchors, count))
    for c, left in enumerate(rows):
        truths[..., c] = np.einsum('pit,pti->pi', left, target)
        for d, right in enumerate(rows):
            grams[..., c, d] = np.einsum('pis,pst,pit->pi', left, target, right, optimize=True)
        if part is not None:
            grams[..., c, -1] = grams[..., -1, c] = np.einsum('pit,pit->pi', left, part.cross)
    if part is not None:
        truths[..., -1] = np.einsum('pii->pi', part.cross)
        grams[..., -1, -1] = part.norms
    return grams, truths


def _stack(grams: np.ndarray, truths: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Non-negative coefficients float64[C] of least left-out error."""
    scales = gram.trace_scales(target)
    own = np.einsum('pii,p->i', target, 1.0 / scales)
    own = np.where(own > 0, own, 1.0)
    normal = np.einsum('picd,p,i->cd', grams, 1.0 / scales, 1.0 / own)
    right = np.einsum('pic,p,i->c', truths, 1.0 / scales, 1.0 / own)
    if not normal.any():
        return np.full(len(right), 1.0 / len(right))
    values, vectors = np.linalg.eigh(normal)
    roots = np.sqrt(np.maximum(values, 1e-9 * values[-1]))
    return scipy.optimize.nnls(roots[:, None] * vectors.T, (vectors.T @ right) / roots)[0]
