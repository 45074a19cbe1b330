"""Mappings whose prediction is a weighted combination of the target's anchors.

The weights come from an `anchor_weights.AnchorWeighting`; what they combine are updates, or, as
in the seed, the factors a and b each by itself.
"""

import dataclasses

import numpy as np

from lorajax.mapping import scores
from lorajax.mapping.anchor_weights import AnchorWeighting, AnchorWeights
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.layout import Layout
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.state import MappingState, Prediction, require
from lorajax.mapping.subspace import (
    Truncated,
    assemble,
    combine_updates,
    update_norm,
    with_rank,
)
from lorajax.mapping.tensor_loop import over_tensors
from lorajax.types import Adapter, JsonDict


def layout(weighting: AnchorWeighting) -> Layout:
    """Returns what `fit` makes."""
    return Layout(
        weighting.layout, ('source', 'target' if weighting.space == 'factor' else 'frame')
    )


def fit(
    weighting: AnchorWeighting, source: Anchors, target: Anchors, options: Options
) -> MappingState:
    """Fits a weighting on paired anchors.

    Returns:
      The fitted mapping; `info` holds leave-one-out scores in the space of updates.
    """
    arrays, info, left_out = weighting.fit(source, target, options)
    if weighting.space == 'factor':
        products = scores.factor_products(left_out, target)
    else:
        products = scores.update_products(left_out, target.delta_gram)
    info = {
        **info,
        'validation': scores.LEAVE_ONE_OUT,
        **scores.report(*products, target.delta_gram),
        'mean_anchor_norm': target.mean_norm,
    }
    state = MappingState(target.tensors, arrays, info, source=source, left_out=left_out)
    if weighting.space == 'factor':
        return dataclasses.replace(state, target=target)
    return dataclasses.replace(state, frame=target.frame)


def predict(
    weighting: AnchorWeighting, state: MappingState, queries: Queries, output_rank: int
) -> list[Prediction]:
    """Translates checked adapters.

    Args:
      weighting: that `state` was fitted with.
      state: result of `fit`.
      queries: adapters of the source.
      output_rank: rank of the predictions.

    Raises:
      InputError: if a query holds NaN or infinity.
    """
    source = require(state.source)
    weighted = weighting.weights(state.arrays, source, queries)
    weights = np.stack([one.weights for one in weighted])
    if weighting.space == 'factor':
        combined = combine_factors(require(state.target), weights, output_rank)
    else:
        combined = combine_updates(require(state.frame), weights, output_rank)
    return [
        Prediction(
            adapter,
            {
                **describe_weights(one, source.tasks),
                **describe_size(adapter, energy_lost, state.info),
            },
        )
        for one, (adapter, energy_lost) in zip(weighted, combined, strict=True)
    ]


def predict_left_out(state: MappingState, output_rank: int) -> list[Adapter]:
    """Predicts every anchor from the others, with penalties and the like chosen on all.

    Args:
      state: result of `fit`, in the same process.
      output_rank: rank of the predictions.

    Returns:
      Adapters of the target in the order of its anchors.

    Raises:
      InputError: if the state holds no left-out weights.
    """
    rows = require(state.left_out).swapaxes(0, 1)  # A P A
    if state.target is not None:
        combined = combine_factors(state.target, rows, output_rank)
    else:
        combined = combine_updates(require(state.frame), rows, output_rank)
    return [adapter for adapter, _ in combined]


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

    def one(index: int) -> Truncated:
        rows = weights[:, index].astype(np.float32)
        x, y = (np.tensordot(rows, f, 1) for f in anchors.layer(*anchors.tensors[index]))
        if rank == x.shape[-1]:
            return Truncated(x, y, np.zeros((len(x), 2)))  # as it is: nothing to lose
        return with_rank(x, y, rank)

    return assemble(anchors.tensors, over_tensors(one, range(len(anchors.tensors))))


def describe_weights(weighted: AnchorWeights, tasks: tuple[str, ...]) -> JsonDict:
    """Reports the anchors' weights and where the query lies.

    Returns:
      'weights': {task: mean weight over tensors}; 'selected': tasks of weight other than 0,
      nearest first; 'distance_to_span': see `scores.span_distance`.
    """
    means = weighted.weights.mean(0).tolist()
    is_used = np.abs(weighted.weights).max(0) > 0
    order = np.argsort(-weighted.cosines, kind='stable')
    return {
        'weights': dict(zip(tasks, means, strict=True)),
        'selected': [tasks[i] for i in order if is_used[i]],
        'distance_to_span': weighted.span_distance,
    }


def describe_size(adapter: Adapter, energy_lost: float, info: JsonDict) -> JsonDict:
    """Reports a prediction's norm over the anchors' mean norm, and what truncation lost.

    Args:
      adapter: the prediction.
      energy_lost: share of the squared norm.
      info: of the `MappingState`.
    """
    return {
        'norm_ratio': update_norm(adapter) / (info['mean_anchor_norm'] or 1.0),
        'energy_lost': energy_lost,
    }
