"""A map of the base models as prior, corrected by what it misses on the anchors.

With T the prior's translation (`direct`) and w the anchors' weights (`weighing`),

  Y* = c T(X*) + sum_t w_t (Y_t - c T(X_t)) = sum_t w_t Y_t + c T(X* - sum_t w_t X_t),

since T is linear: the part of the query that the anchors do not explain is carried over by the
prior, so the prediction leaves the anchors' span. One scale c >= 0 for all tensors minimises the
left-out error; it tells what the prior adds, and is 0 where it adds nothing.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from lorajax.mapping import gram, scores
from lorajax.mapping.anchor_weights import Weigher
from lorajax.mapping.anchors import Anchors, read_layer
from lorajax.mapping.baselines import data_free
from lorajax.mapping.combination import describe_weights
from lorajax.mapping.options import Extras, Options
from lorajax.mapping.state import Fitted, Prediction, present
from lorajax.mapping.subspace import (
    leading_factors,
    lost_share,
    stack_layers,
    update_norm,
    weighted_core,
    with_rank,
)
from lorajax.types import Adapter, Array


@dataclasses.dataclass(frozen=True)
class Anchored:
    """A prior and who weighs the anchors.

    Attributes:
      maker: makes the prior's maps of one pair of tensors.
      weigher: of the 'delta' space.
    """

    maker: data_free.Maker
    weigher: Weigher

    def fit(self, source: Anchors, target: Anchors, options: Options, extras: Extras) -> Fitted:
        """Fits prior, weights and scale.

        Raises:
          InputError: as `data_free.fit`.
        """
        arrays, info, left_out = self.weigher.fit_weighing(source, target, options)
        prior = data_free.fit(self.maker, source, target, data_free.Inputs(options, extras))
        layers = prior.arrays['source_layer']
        shape = target.delta_gram.shape
        # <what the prior adds to the left-out prediction, truth>, with that prediction, with itself
        truth, mixed, own = np.zeros(shape[:2]), np.zeros(shape[:2]), np.zeros(shape[:2])
        for index, ((projection, layer), maps) in enumerate(
            zip(target.tensors, prior.per_tensor, strict=True)
        ):
            x, y = data_free.carry(maps, *source.layer(projection, int(layers[index])))
            a, b = target.layer(projection, layer)
            with_target = gram.inner_products('delta', x, y, a, b)
            with_prior = gram.inner_products('delta', x, y, x, y)
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
        return Fitted(
            target.tensors,
            {**arrays, 'source_layer': layers, 'prior_scale': np.array(scale)},
            {**info, **report, 'prior_scale': scale, 'mean_anchor_norm': target.mean_norm},
            per_tensor=prior.per_tensor,
            source=source,
            frame=target.frame,
        )

    def predict(
        self, fitted: Fitted, queries: Sequence[Adapter], output_rank: int
    ) -> list[Prediction]:
        """Translates checked adapters; see `span.predict`."""
        source, frame = present(fitted.source), present(fitted.frame)
        scale = float(fitted.arrays['prior_scale'])
        layers = fitted.arrays['source_layer'].tolist()
        predictions = []
        for query, found in zip(
            queries, self.weigher.weigh(fitted.arrays, source, queries), strict=True
        ):
            factors, energies = [], []
            for index, (basis, row) in enumerate(zip(frame.bases, found.weights, strict=True)):
                core = weighted_core(basis.a, basis.b, row.astype(np.float32))
                spanned = leading_factors(core, basis.q_in, basis.q_out, min(core.shape))[:2]
                projection, _ = fitted.tensors[index]
                rest = _unexplained(source, query, projection, layers[index], row)
                x, y = data_free.carry(fitted.per_tensor[index], *rest)
                a = np.concatenate([spanned[0], np.asarray(x)], axis=1)
                b = np.concatenate([spanned[1], scale * np.asarray(y)], axis=0)
                left, right, energy = with_rank(a, b, output_rank)
                factors.append((left, right))
                energies.append(energy)
            adapter = stack_layers(fitted.tensors, factors)
            predictions.append(
                Prediction(
                    adapter,
                    {
                        **describe_weights(found.weights, found.cosines, source.tasks),
                        'distance_to_span': found.distance,
                        'norm_ratio': update_norm(adapter)
                        / (fitted.info['mean_anchor_norm'] or 1.0),
                        'energy_lost': lost_share(energies),
                    },
                )
            )
        return predictions


def _unexplained(
    source: Anchors, query: Adapter, projection: str, layer: int, weights: np.ndarray
) -> tuple[Array, Array]:
    """Returns factors of X* - sum_t w_t X_t for one tensor."""
    a, b = source.layer(projection, layer)
    own_a, own_b = read_layer(query, projection, layer)
    weighted = -weights.astype(np.float32)[:, None, None] * b
    return (
        np.concatenate([own_a, *a], axis=1),
        np.concatenate([own_b, *weighted], axis=0),
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
