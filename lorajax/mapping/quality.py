"""What a translated adapter can be expected to be worth, with an interval.

The worth is the share of the loss that an adapter of the task's own would remove: 0 is no adapter,
1 as good as trained, less than 0 worse than none. Two things speak for it: what translations were
worth in toy worlds from as many anchors at the same distance to their span (`toy_shares`), and,
where the target model has seen the anchors' rows, what this mapping's own left-out anchors were
worth (`evaluation.functional`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lorajax.mapping import toy_shares
from lorajax.mapping.model_card import anchor_distances

FUNCTIONAL = 'functional'  # in diagnostics: what `shares` reads
_TOY_WEIGHT = 8.0  # anchors at the same distance that all toy worlds together weigh as much as
_BANDWIDTH = 0.05  # of distances: the shares of anchors within it count, roughly
_COVERAGE = 0.8


class Expected(NamedTuple):
    """An expected share with its 80 % interval.

    Attributes:
      share: median.
      low, high: of the interval.
      is_measured: whether left-out anchors of the mapping speak, too, or toy worlds alone.
      method: of the mapping, where another one made the translations in toy worlds.
    """

    share: float
    low: float
    high: float
    is_measured: bool
    method: str = ''

    @property
    def words(self) -> str:
        """The numbers in a sentence."""
        source = 'left-out anchors and toy worlds' if self.is_measured else 'toy worlds alone'
        if self.method:
            source += f', these of {toy_shares.METHOD} and not of {self.method}'
        return (
            f'{self.share:.2f} of what an adapter can gain, 80 % interval {self.low:.2f} to '
            f'{self.high:.2f} (by {source}; 0 is no adapter, 1 as good as trained)'
        )


def shares(functional: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns the share of each left-out anchor.

    Args:
      functional: task -> nats per token on the task's rows with 'none', 'left_out' and 'own'
        adapters. Tasks of which the own adapter gains nothing are left out.
    """
    return {
        task: (row['none'] - row['left_out']) / (row['none'] - row['own'])
        for task, row in functional.items()
        if row['none'] > row['own']
    }


def expect(diagnostics: Mapping[str, Any], report: Mapping[str, Any]) -> Expected:
    """Returns what a translation can be expected to be worth.

    Args:
      diagnostics: of the fitted mapping; `functional` holds what `shares` reads, if it was
        measured.
      report: of the prediction; without a distance the worst is expected.
    """
    count = len(diagnostics['anchors'])
    distance = report.get('distance_to_span')
    distance = 1.0 if distance is None else float(distance)
    values = _in_toy_worlds(count, distance)
    weights = np.full(len(values), _TOY_WEIGHT / len(values))
    measured = shares(diagnostics.get(FUNCTIONAL) or {})
    known = [
        (measured[task], place)
        for task, place in zip(diagnostics['anchors'], anchor_distances(diagnostics), strict=False)
        if task in measured
    ]
    if known and count > 2:  # fewer leave nothing to predict one from
        own, places = np.array(known).T
        values = np.concatenate([values, own])
        near = np.exp(-0.5 * ((places - distance) / _BANDWIDTH) ** 2)
        weights = np.concatenate([weights, near])
    tail = (1.0 - _COVERAGE) / 2
    low, middle, high = quantiles(values, weights, (tail, 0.5, 1.0 - tail))
    method = diagnostics.get('method', toy_shares.METHOD)
    other = '' if method == toy_shares.METHOD else method
    return Expected(middle, low, high, bool(known) and count > 2, other)


def _in_toy_worlds(count: int, distance: float) -> np.ndarray:
    """Returns quantiles of the shares in toy worlds at the nearest number of anchors."""
    nearest = min(toy_shares.SHARES, key=lambda known: abs(math.log(known / count)))
    rows = np.array(toy_shares.SHARES[nearest])
    if len(rows) == 1:
        return rows[0]
    return np.array([np.interp(distance, toy_shares.DISTANCES, column) for column in rows.T])


def quantiles(
    values: np.ndarray, weights: np.ndarray, levels: Sequence[float]
) -> tuple[float, ...]:
    """Returns weighted quantiles, each value at the middle of its weight."""
    order = np.argsort(values, kind='stable')
    values, weights = values[order], weights[order]
    places = (np.cumsum(weights) - 0.5 * weights) / weights.sum()
    return tuple(float(np.interp(level, places, values)) for level in levels)
