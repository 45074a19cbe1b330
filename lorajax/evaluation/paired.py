"""What answers to the same items say about two methods, or about the best of several."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lorajax.evaluation.intervals import SEED, Floats, mcnemar

NUM_PERMUTATIONS = 1000


def paired_tests(answers: Mapping[str, Floats]) -> dict[str, dict[str, dict[str, Any]]]:
    """Makes exact McNemar tests of every method against base and against mean.

    Args:
      answers: {method: float64[n]} of 0 and 1, items in the same order.

    Returns:
      {method: {'base' or 'mean': {'gained', 'lost', 'p_value'}}}: items that only the
      method gets right, items that only the other one does. p-values are not corrected for
      the number of methods.
    """
    tests: dict[str, dict[str, dict[str, Any]]] = {}
    for method, own in answers.items():
        for other in ('base', 'mean'):
            if other in answers and other != method:
                gained = int(np.sum(own > answers[other]))
                lost = int(np.sum(own < answers[other]))
                tests.setdefault(method, {})[other] = {
                    'gained': gained,
                    'lost': lost,
                    'p_value': mcnemar(gained, lost),
                }
    return tests


def best_of_chance(
    answers: Mapping[str, Mapping[str, Floats]], headline: float
) -> dict[str, float | int]:
    """Returns how large the best-of headline would be if all methods were equally good.

    The headline takes, on each task, the best of several learned methods minus mean: a
    maximum of noisy numbers, so it is positive even where no method is better than
    another. Here the names of the methods are shuffled within each item, which makes them
    equal by construction while items keep their difficulty.

    Args:
      answers: {usable task: {method: float64[n]}} with 'mean' and the learned methods.
      headline: the observed value, a fraction of 1.

    Returns:
      expected: mean headline over the shuffles; p_value: share of shuffles that reach the
      observed one (plus one, Phipson & Smyth 2010); draws: their number.
    """
    generator = np.random.default_rng(SEED)
    leads = np.zeros(NUM_PERMUTATIONS)
    rows = [methods for methods in answers.values() if 'mean' in methods and len(methods) > 1]
    for methods in rows:
        order = ['mean', *(m for m in methods if m != 'mean')]
        table = np.stack([methods[m] for m in order], axis=1)  # n x methods
        n = len(table)
        # Items on which all agree shift every method alike; only the others matter.
        table = table[table.min(axis=1) != table.max(axis=1)]
        for draw in range(NUM_PERMUTATIONS):
            total = generator.permuted(table, axis=1).sum(axis=0)
            leads[draw] += (total[1:].max() - total[0]) / n / len(rows)
    reached = int(np.sum(leads >= headline - 1e-12))
    return {
        'expected': float(leads.mean()),
        'p_value': (1 + reached) / (1 + NUM_PERMUTATIONS),
        'draws': NUM_PERMUTATIONS,
    }
