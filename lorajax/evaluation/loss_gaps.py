"""The gap recovered as the loss of the reference answers sees it: the sensitive endpoint."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lorajax.evaluation import intervals
from lorajax.evaluation.counts import Outcomes
from lorajax.evaluation.intervals import Floats


class LossGaps(NamedTuple):
    """What the losses say.

    Attributes:
      rows: {task: {'nll': {method: mean, nats per answer token}, 'nll_gap_recovered':
        {method: (L_base - L_method) / (L_base - L_oracle), None without a gap}}}.
      pooled: {method: [value, low, high]} over the tasks on which the oracle lowers the loss.
    """

    rows: dict[str, dict[str, dict[str, Any]]]
    pooled: dict[str, list[float | None]]


def loss_gaps(nll: Outcomes, clusters: Mapping[str, Sequence[Hashable]]) -> LossGaps:
    """Returns the share of the oracle's fall in loss that each method reaches.

    Args:
      nll: {task: {method: float[n]}}, nats per answer token; a single mean is taken too.
      clusters: {task: n problem names}; items of one problem are resampled together.
    """
    losses = {
        task: {m: np.atleast_1d(np.asarray(v, np.float64)) for m, v in methods.items()}
        for task, methods in nll.items()
        if methods
    }
    names = {task: clusters[task] for task in losses if task in clusters}
    per_item = all(v.size == len(names[task]) for task in names for v in losses[task].values())
    sums, sizes = intervals.resample(losses, names if per_item else None)
    means = {t: {m: float(v.mean()) for m, v in methods.items()} for t, methods in losses.items()}
    gaps = {
        task: mean['base'] - mean['oracle'] if {'base', 'oracle'} <= mean.keys() else 0.0
        for task, mean in means.items()
    }
    rows: dict[str, dict[str, dict[str, Any]]] = {
        task: {
            'nll': mean,
            'nll_gap_recovered': {
                m: (mean['base'] - v) / gaps[task] if gaps[task] > 0 else None
                for m, v in mean.items()
                if m not in ('base', 'oracle')
            },
        }
        for task, mean in means.items()
    }

    def fall(method: str, tasks: Sequence[str]) -> Floats:
        """Mean losses of base minus those of a method, float64[draws], summed over tasks."""
        falls = [sums[t]['base'] - sums[t][method] for t in tasks]
        return np.sum([f / np.maximum(sizes[t], 1) for f, t in zip(falls, tasks, strict=True)], 0)

    pooled = {}
    with_gap = [task for task in means if gaps[task] > 0]
    for method in dict.fromkeys(m for task in with_gap for m in means[task]):
        if method not in ('base', 'oracle'):
            tasks = [task for task in with_gap if method in means[task]]
            gain = sum(means[t]['base'] - means[t][method] for t in tasks)
            ends = intervals.ratio_interval(fall(method, tasks), fall('oracle', tasks))
            pooled[method] = [gain / sum(gaps[t] for t in tasks), *ends]
    return LossGaps(rows, pooled)
