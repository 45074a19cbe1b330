"""Intervals and tests for answers that are right or wrong: pure functions of numbers.

Nothing here knows tasks, files or reports. Randomness comes from one fixed numpy seed, so
the same outcomes give the same digits everywhere.
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

NUM_DRAWS = 2000
SEED = 20260507
# A ratio's percentile interval means nothing once its denominator crosses zero; more draws
# than this with a denominator <= 0 and the interval is withheld.
MAX_SHARE_NONPOSITIVE = 0.01

Floats = npt.NDArray[np.float64]


def wilson(correct: int, n: int) -> list[float] | None:
    """Returns the 95 % Wilson score interval of a proportion, None when n is 0.

    Source: Wilson 1927, equation for the limits.
    """
    if n == 0:
        return None
    low, high = stats.binomtest(correct, n).proportion_ci(0.95, method='wilson')
    return [float(low), float(high)]


def mcnemar(gained: int, lost: int) -> float:
    """Returns the two-sided exact McNemar p-value of paired right/wrong answers.

    Args:
      gained: items that only the first method gets right.
      lost: items that only the second one gets right.

    Returns:
      Probability of a split at least this uneven if each such item were a fair coin; 1.0
      when the methods never disagree.

    Source: McNemar 1947 in its exact form, a binomial test at p = 1/2.
    """
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def percentiles(draws: Floats) -> list[float]:
    """Returns the 2.5 % and 97.5 % points of float[draws]."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return [float(low), float(high)]


def ratio_interval(numerator: Floats, denominator: Floats) -> list[float | None]:
    """Returns the percentile interval of numerator / denominator over paired draws.

    Args:
      numerator: float64[draws].
      denominator: float64[draws], from the same resamples.

    Returns:
      [low, high], or [None, None] when the denominator is not safely positive.
    """
    positive = denominator > 0
    if 1 - positive.mean() > MAX_SHARE_NONPOSITIVE:
        return [None, None]
    low, high = percentiles(numerator[positive] / denominator[positive])
    return [low, high]


def linked_groups(clusters: Mapping[str, Sequence[Hashable]]) -> list[list[str]]:
    """Splits tasks into groups such that no problem is in two groups.

    Args:
      clusters: {task: names of its problems}.
    """
    groups: list[tuple[list[str], set[Hashable]]] = []
    for task, names in clusters.items():
        tasks, members = [task], set(names)
        apart = []
        for group in groups:
            if group[1] & members:
                tasks, members = group[0] + tasks, members | group[1]
            else:
                apart.append(group)
        groups = [*apart, (tasks, members)]
    return [tasks for tasks, _ in groups]


def resample(
    values: Mapping[str, Mapping[str, npt.ArrayLike]],
    clusters: Mapping[str, Sequence[Hashable]] | None = None,
    num_draws: int = NUM_DRAWS,
    seed: int = SEED,
) -> tuple[dict[str, dict[str, Floats]], dict[str, Floats]]:
    """Resamples items jointly for all methods of all tasks (paired bootstrap).

    One draw picks problems with replacement, and every method is summed over the same
    picks: differences and ratios of methods keep their pairing. Tasks are strata. Where
    tasks share problems (GSM-Hard is GSM8K with larger numbers), a problem is picked with
    its items in all of them, within the group of tasks so linked.

    Args:
      values: {task: {method: float[n]}}, one value per item, items in the same order for
        all methods of a task.
      clusters: {task: n problem names}; without it every item is its own problem.
      num_draws: number of resamples.
      seed: of numpy's generator.

    Returns:
      sums: {task: {method: float64[num_draws]}}, sums over the picked items;
      sizes: {task: float64[num_draws]}, how many items were picked (constant unless
        problems hold different numbers of items).

    Source: Efron & Tibshirani 1993, chapters 6 and 8; clusters as in Miller 2024
    (arXiv 2411.00640), section 2.2.
    """
    names: dict[str, Sequence[Hashable]] = {}
    for task, methods in values.items():
        size = max((np.size(v) for v in methods.values()), default=0)
        problems = clusters.get(task) if clusters else None
        names[task] = problems if problems is not None else [(task, i) for i in range(size)]
    generator = np.random.default_rng(seed)
    sums: dict[str, dict[str, Floats]] = {task: {} for task in values}
    sizes: dict[str, Floats] = {}
    for tasks in linked_groups(names):
        index: dict[Hashable, int] = {}
        for task in tasks:
            for name in names[task]:
                index.setdefault(name, len(index))
        total = len(index)
        if total == 0:
            weights = np.zeros((num_draws, 0), np.int64)
        else:
            weights = generator.multinomial(total, np.full(total, 1 / total), num_draws)
        for task in tasks:
            picks = weights[:, [index[name] for name in names[task]]].astype(np.float64)
            sizes[task] = picks.sum(axis=1)
            for method, column in values[task].items():
                sums[task][method] = picks @ np.asarray(column, np.float64)
    return sums, sizes


def resample_counts(
    counts: Mapping[str, Mapping[str, int]],
    sizes: Mapping[str, int],
    num_draws: int = NUM_DRAWS,
    seed: int = SEED,
) -> dict[str, dict[str, Floats]]:
    """Draws counts as independent binomials, for when only counts are known.

    Methods that answer the same items agree on most of them, so treating them as
    independent makes intervals of differences wider than `resample` would.

    Args:
      counts: {task: {method: number correct}}.
      sizes: {task: number of items}.
      num_draws: number of draws.
      seed: of numpy's generator.

    Returns:
      {task: {method: float64[num_draws]}}, drawn numbers correct.
    """
    generator = np.random.default_rng(seed)
    return {
        task: {
            method: generator.binomial(
                sizes[task], correct / max(sizes[task], 1), num_draws
            ).astype(np.float64)
            for method, correct in methods.items()
        }
        for task, methods in counts.items()
    }
