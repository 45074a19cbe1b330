"""Adapters beside their base on one task: score, loss and what is gained, with intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lorajax.evaluation import intervals
from lorajax.evaluation.choices import READINGS
from lorajax.evaluation.outcomes import Row

BASE = 'base'


class Estimate(NamedTuple):
    """A mean over items with the 95 % percentile interval of its bootstrap; NaN for one item."""

    value: float
    low: float
    high: float


class Score(NamedTuple):
    """How one adapter does on one task.

    Attributes:
      num_correct: items that are right, of `num_items`.
      accuracy: share of them, with its Wilson interval.
      loss: nats per answer token; None where a loss is no number.
      gain: in accuracy over the base, on the same items; None for the base itself.
      loss_change: the same of the loss, below 0 where the adapter helps.
      readings: shares of right choices by likelihood, of a task with choices.
    """

    num_correct: int
    num_items: int
    accuracy: Estimate
    loss: Estimate | None
    gain: Estimate | None
    loss_change: Estimate | None
    readings: dict[str, float]


def compare(rows: Sequence[Row]) -> dict[str, Score]:
    """Returns the scores of all methods of one task, paired with the base item by item.

    Args:
      rows: outcomes of one task, among them those of 'base'.
    """
    table: dict[str, dict[str, Row]] = {}
    for row in rows:
        table.setdefault(row['method'], {})[row['item']] = row
    items = list(table[BASE])
    right = {
        m: np.array([float(answers[i]['correct']) for i in items]) for m, answers in table.items()
    }
    loss = {
        m: np.array([np.nan if answers[i]['nll'] is None else answers[i]['nll'] for i in items])
        for m, answers in table.items()
    }
    return {
        method: Score(
            num_correct=int(right[method].sum()),
            num_items=len(items),
            accuracy=_accuracy(right[method]),
            loss=_mean(loss[method]),
            gain=None if method == BASE else _mean(right[method] - right[BASE]),
            loss_change=None if method == BASE else _mean(loss[method] - loss[BASE]),
            readings=_readings(list(answers.values())),
        )
        for method, answers in table.items()
    }


def lines(task: str, rows: Sequence[Row]) -> list[str]:
    """Returns a line for each method of a task, the base first; see `compare`."""
    return [_line(task, method, score) for method, score in compare(rows).items()]


def _accuracy(right: intervals.Floats) -> Estimate:
    """Returns a share with its Wilson interval."""
    low, high = intervals.wilson(int(right.sum()), len(right)) or (0.0, 1.0)
    return Estimate(float(right.mean()), low, high)


def _mean(values: intervals.Floats) -> Estimate | None:
    """Returns a mean with the interval of its bootstrap; None where a value is no number."""
    if not np.isfinite(values).all():
        return None
    sums, sizes = intervals.resample({'': {'': values}})
    low, high = intervals.percentiles(sums[''][''] / sizes[''])
    if len(values) == 1:  # drawn again it is itself, which says nothing of others
        low = high = math.nan
    return Estimate(float(values.mean()), low, high)


def _readings(rows: Sequence[Row]) -> dict[str, float]:
    """Returns the share of items of which each reading names the right choice."""
    return {
        name: sum(bool(row['details'][name]) for row in rows) / len(rows)
        for name in READINGS
        if all(name in row['details'] for row in rows)
    }


def _line(task: str, method: str, score: Score) -> str:
    """One line on one method."""
    share = f'{score.accuracy.value:.3f} {_interval(score.accuracy)}'
    parts = [
        task,
        method,
        f'{score.num_correct}/{score.num_items} = {share}',
        'loss is not finite'
        if score.loss is None
        else f'{score.loss.value:.3f} nats per answer token {_interval(score.loss)}',
    ]
    if score.gain:
        parts.append(f'against base: score {score.gain.value:+.3f} {_interval(score.gain, "+")}')
    if score.loss_change:
        change = score.loss_change
        parts.append(f'loss {change.value:+.3f} {_interval(change, "+")}')
    parts += [f'{name} {share:.3f}' for name, share in score.readings.items()]
    return '  '.join(parts)


def _interval(estimate: Estimate, sign: str = '') -> str:
    """The two ends of an interval."""
    if math.isnan(estimate.low):
        return 'of one item'
    return f'[{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]'
