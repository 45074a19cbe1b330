"""Numbers correct: checked by themselves, and against the answers behind them."""

import operator
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lorajax.errors import InputError
from lorajax.evaluation.intervals import Floats

Counts = Mapping[str, int]  # {method: number correct}
Outcomes = Mapping[str, Mapping[str, npt.ArrayLike]]  # {task: {method: one number per item}}


def check_counts(task: str, row: Mapping[str, int]) -> tuple[int, dict[str, int]]:
    """Splits a task's counts into n and {method: number correct}.

    Args:
      task: for messages.
      row: {'n': items, method: number correct}.

    Raises:
      InputError: without n, base or oracle; on a number that is not whole, or not 0 to n.
    """
    for name in ('n', 'base', 'oracle'):
        if name not in row:
            raise InputError(f'counts of {task}: no {name!r}, expected n, base and oracle')
    numbers = {}
    for name, value in row.items():
        try:
            numbers[name] = operator.index(value)
        except TypeError:
            raise InputError(
                f'counts of {task}: {name} = {value!r}, expected a whole number'
            ) from None
    n = numbers.pop('n')
    if n < 0:
        raise InputError(f'counts of {task}: n = {n}, expected 0 or more')
    for method, value in numbers.items():
        if not 0 <= value <= n:
            raise InputError(f'counts of {task}: {method} = {value}, expected 0 to n = {n}')
    return n, numbers


def check_answers(task: str, outcomes: Outcomes, correct: Counts, n: int) -> dict[str, Floats]:
    """Returns {method: float64[n]} of 0 and 1, the answers behind the counts of one task.

    Args:
      task: key of `outcomes`.
      outcomes: {task: {method: bool[n]}}.
      correct: {method: number correct}.
      n: number of items.

    Raises:
      InputError: if a method has no answers, or answers that do not add up to its count.
    """
    answers = {}
    for method, value in correct.items():
        if task not in outcomes or method not in outcomes[task]:
            raise InputError(f'outcomes of {task}: no answers of {method}, only a count')
        answers[method] = np.asarray(outcomes[task][method], np.float64)
        if answers[method].shape != (n,) or int(answers[method].sum()) != value:
            raise InputError(
                f'outcomes of {task}: {method} has {int(answers[method].sum())} correct of '
                f'{answers[method].size}, expected {value} of {n}'
            )
    return answers
