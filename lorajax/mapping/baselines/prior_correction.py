"""A map of the base models as prior, corrected by what it misses on the anchors.

With T the prior's translation (`data_free`) and w the anchors' weights (`anchor_weights`),

  Y* = c T(X*) + sum_t w_t (Y_t - c T(X_t)) = sum_t w_t Y_t + c T(X* - sum_t w_t X_t),

since T is linear: the part of the query that the anchors do not explain is carried over by the
prior, so the prediction leaves the anchors' span. One scale c >= 0 for all tensors minimises the
left-out error; it tells what the prior adds, and is 0 where it adds nothing.
"""

import dataclasses

import numpy as np

from lorajax.mapping import gram, scores
from lorajax.mapping.anchor_weights import AnchorWeighting
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.baselines import data_free
from lorajax.mapping.combination import describe_size, describe_weights
from lorajax.mapping.layout import Layout, numbers
from lorajax.mapping.options import BaseModelArrays, Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.state import MappingState, Prediction, require
from lorajax.mapping.subspace import assemble, leading_factors, weighted_core, with_rank


@dataclasses.dataclass(frozen=True)
class PriorCorrection:
    """A prior, and what weights the anchors.

    Attributes:
      maker: makes the prior's maps of one pair of tensors.
      weighting: of the 'delta' space.
    """

    maker: data_free.Maker
    weighting: AnchorWeighting

    @property
    def layout(self) -> Layout:
        """Of the fitted mapping."""
        arrays = {**self.weighting.layout, 'prior_scale': numbers()}
        return Layout(arrays, ('source', 'frame'), data_free.LAYOUT.per_tensor)

    def fit(
        self, source: Anchors, target: Anchors, options: Options, base_models: BaseModelArrays
    ) -> MappingState:
        """Fits prior, weights and scale.

        Raises:
          InputError: as `data_free.fit`.
        """
        arrays, info, left_out = self.weighting.fit(source, target, options)
        prior = data_free.fit(self.maker, source, target, data_free.Inputs(options, base_models))
        shape = target.delta_gram.shape
        # <what the prior adds to the left-out prediction, truth>, with that prediction, with itself
        truth, mixed, own = np.zeros(shape[:2]), np.zeros(shape[:2]), np.zeros(shape[:2])
        for index, ((projection, layer), maps) in enumerate(
            zip(target.tensors, prior.per_tensor, strict=True)
        ):
            x, y = data_free.carry(maps, *source.layer(projection, maps['source_layer'].item()))
            a, b = target.layer(projection, layer)
            with_target, _ = gram.cross_products('delta', x, y, a, b)
            with_prior, _ = gram.cross_products('delta', x, y, x, y)
            rest = np.eye(len(source)) - left_out[index]
            truth[index] = (rest @ with_target).diagonal()
            mixed[index] = np.einsum('is,st,it->i', rest, with_target, left_out[index])
            own[index] = np.einsum('is,st,it->i', rest, with_prior, rest)
        scale = _scale(truth - mixed, own, target.delta_gram)
        products, norms = scores.update_products(left_out, target.delta_gram)
        report = scores.report(
            products + scale * truth,
            norms + 2.0 * scale * mixed + scale**2 * own,
            target.delta_gram,
        )
        return MappingState(
            target.tensors,
            {**arrays, 'prior_scale': np.array(scale)},
            {
                **info,
                'validation': scores.LEAVE_ONE_OUT,
                **report,
                'prior_scale': scale,
                'mean_anchor_norm': target.mean_norm,
            },
            per_tensor=prior.per_tensor,
            source=source,
            frame=target.frame,
        )

    def predict(self, state: MappingState, queries: Queries, output_rank: int) -> list[Prediction]:
        """Translates checked adapters; see `combination.predict`."""
        source, frame = require(state.source), require(state.frame)
        scale = float(state.arrays['prior_scale'])
        weighted = self.weighting.weights(state.arrays, source, queries)
        parts = []
        for index, basis in enumerate(frame.bases):
            rows = np.stack([one.weights[index] for one in weighted]).astype(np.float32)
            cores = weighted_core(basis.a, basis.b, rows)
            spanned = leading_factors(cores, basis.q_in, basis.q_out, min(cores.shape[1:]))
            projection, _ = state.tensors[index]
            maps = state.per_tensor[index]
            rest = _unexplained(source, queries, projection, maps['source_layer'].item(), rows)
            x, y = data_free.carry(maps, *rest)
            a = np.concatenate([spanned.a, x], axis=2)
            b = np.concatenate([spanned.b, np.float32(scale) * y], axis=1)
            parts.append(with_rank(a, b, output_rank))
        return [
            Prediction(
                adapter,
                {
                    **describe_weights(one, source.tasks),
                    **describe_size(adapter, lost, state.info),
                },
            )
            for one, (adapter, lost) in zip(weighted, assemble(state.tensors, parts), strict=True)
        ]


def _unexplained(
    source: Anchors, queries: Queries, projection: str, layer: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns factors of X* - sum_t w_t X_t for one tensor of each query.

    Args:
      weights: float32[C, A].

    Returns:
      float32[C, in, Q + A R] and float32[C, Q + A R, out].
    """
    a, b = source.layer(projection, layer)
    x, y = queries.layer(projection, layer)
    side_by_side = a.swapaxes(0, 1).reshape(a.shape[1], -1)
    weighted = (-weights[:, :, None, None] * b).reshape(len(x), side_by_side.shape[1], -1)
    return (
        np.concatenate([x, np.broadcast_to(side_by_side, (len(x), *side_by_side.shape))], axis=2),
        np.concatenate([y, weighted], axis=1),
    )


def _scale(overlap: np.ndarray, length: np.ndarray, target: np.ndarray) -> float:
    """Returns c >= 0 of least left-out error, tensors trace-normalised, anchors by their norm.

    Args:
      overlap: float64[P, A], <error without the prior, what the prior adds>.
      length: float64[P, A], |what the prior adds|^2.
      target: float64[P, A, A], inner products of the anchors' updates.
    """
    scales = gram.trace_scales(target)
    norms = np.einsum('pii,p->i', target, 1.0 / scales)
    share = 1.0 / np.where(norms > 0, norms, 1.0)
    total = np.einsum('pi,p,i->', length, 1.0 / scales, share)
    return max(0.0, float(np.einsum('pi,p,i->', overlap, 1.0 / scales, share) / (total or 1.0)))
