"""Mappings whose prediction is a weighted combination of the target's anchors.

Who gives the weights is a `weighing.Weigher`; what they combine are updates, or, as in the seed,
the factors a and b each by itself.
"""

from collections.abc import Sequence

import numpy as np

from lorajax.mapping import scores
from lorajax.mapping.anchor_weights import Weigher
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.options import Options
from lorajax.mapping.state import Fitted, Prediction, present
from lorajax.mapping.subspace import (
    combine_updates,
    lost_share,
    stack_layers,
    update_norm,
    with_rank,
)
from lorajax.types import Adapter, JsonDict


def fit(weigher: Weigher, source: Anchors, target: Anchors, options: Options) -> Fitted:
    """Fits a weigher on paired anchors.

    Returns:
      The fitted mapping; `info` holds leave-one-out scores in the space of updates.
    """
    arrays, info, left_out = weigher.fit_weighing(source, target, options)
    if weigher.space == 'factor':
        products = scores.factor_products(left_out, target)
    else:
        products = scores.update_products(left_out, target.delta_gram)
    info = {**info, **scores.report(*products, target.delta_gram)}
    info['mean_anchor_norm'] = target.mean_norm
    if weigher.space == 'factor':
        return Fitted(target.tensors, arrays, info, source=source, target=target)
    return Fitted(target.tensors, arrays, info, source=source, frame=target.frame)


def predict(
    weigher: Weigher, fitted: Fitted, queries: Sequence[Adapter], output_rank: int
) -> list[Prediction]:
    """Translates checked adapters.

    Args:
      weigher: that `fitted` was fitted with.
      fitted: result of `fit`.
      queries: adapters of the source.
      output_rank: rank of the predictions.

    Raises:
      InputError: if a query holds NaN or infinity.
    """
    source = present(fitted.source)
    weighed = weigher.weigh(fitted.arrays, source, queries)
    weights = np.stack([found.weights for found in weighed])
    if weigher.space == 'factor':
        combined = combine_factors(present(fitted.target), weights, output_rank)
    else:
        combined = combine_updates(present(fitted.frame), weights, output_rank)
    return [
        Prediction(
            adapter,
            {
                **describe_weights(found.weights, found.cosines, source.tasks),
                'distance_to_span': found.distance,
                'norm_ratio': update_norm(adapter) / (fitted.info['mean_anchor_norm'] or 1.0),
                'energy_lost': energy,
            },
        )
        for found, (adapter, energy) in zip(weighed, combined, strict=True)
    ]


def combine_factors(
    anchors: Anchors, weights: np.ndarray, rank: int
) -> list[tuple[Adapter, float]]:
    """Returns weighted sums of the anchors' a and, separately, of their b.

    This is the seed's output space. It equals the sum of updates only if the anchors share
    one factor; otherwise cross terms a_s b_t appear.

    Args:
      anchors: of the target; read once.
      weights: float64[C, P, A], one row per result and tensor.
      rank: of the results.

    Returns:
      C pairs: the adapter, and the share of its squared norm that truncation to `rank` lost.
    """
    factors: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in weights]
    energies: list[list[np.ndarray]] = [[] for _ in weights]
    rows = np.asarray(weights, np.float32).swapaxes(0, 1)
    for row, (a, b) in zip(rows, anchors.stream(), strict=True):
        sums = zip(np.tensordot(row, a, 1), np.tensordot(row, b, 1), strict=True)
        for result, energy, (x, y) in zip(factors, energies, sums, strict=True):
            if rank != x.shape[1]:
                x, y, kept = with_rank(x, y, rank)
                energy.append(kept)
            result.append((x, y))
    return [
        (stack_layers(anchors.tensors, result), lost_share(energy))
        for result, energy in zip(factors, energies, strict=True)
    ]


def describe_weights(weights: np.ndarray, cosines: np.ndarray, tasks: tuple[str, ...]) -> JsonDict:
    """Reports weights float64[P, A]: their mean over tensors, and the anchors in use.

    Args:
      weights: of the anchors in each tensor.
      cosines: float64[A], of the query with the anchors.
      tasks: the anchors' names.

    Returns:
      'weights': {task: mean weight}; 'selected': tasks of weight other than 0, nearest first.
    """
    means = weights.mean(0).tolist()
    used = np.abs(weights).max(0) > 0
    return {
        'weights': dict(zip(tasks, means, strict=True)),
        'selected': [tasks[i] for i in np.argsort(-cosines, kind='stable') if used[i]],
    }
