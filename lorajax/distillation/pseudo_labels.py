"""Pseudo-labels: the answers of a teacher that are worth learning.

`select` keeps those of which the teacher is surest, in place of the trained discriminator of
Trans-LoRA (Wang et al. 2024, arXiv 2405.17258). Where pairs of adapters are at hand, `trust` asks
more.
"""

import collections
from collections.abc import Sequence

import numpy as np

from lorajax.distillation.teacher import Answer
from lorajax.errors import InputError
from lorajax.tasks.task import Example, Prompt


def example(task: str, prompt: str | Prompt, answer: str, item: str = '') -> Example:
    """Returns an answered prompt in the form that chat formats and trainings read."""
    text, context = prompt if isinstance(prompt, Prompt) else (prompt, ())
    return Example(
        item=item or task,
        prompt=text,
        answer=answer,
        reference=answer,
        problem_ids=(),
        question=text,
        context=context,
    )


def doubt(answers: Sequence[Answer]) -> np.ndarray:
    """Returns float64[N], how unsure a teacher is of each answer; inf for unfinished ones.

    An answer has the place of its loss among all losses, from 0 to 1, if nobody else has it, and
    its place among the losses of equal answers if there are many; in between, with 1 / number as
    the share of the former. So where a task has few answers the surest of each count, and not
    those to the one that the teacher finds easiest, which alone tell nothing of the task.
    """
    losses = np.array([answer.nll for answer in answers])
    finished = np.flatnonzero(np.isfinite(losses))
    found = np.full(len(losses), np.inf)
    found[finished] = _places(losses[finished])
    equal = collections.defaultdict(list)
    for index in finished.tolist():
        equal[answers[index].text].append(index)
    for places in equal.values():
        within = _places(losses[places])
        found[places] += (within - found[places]) * (1 - 1 / len(places))
    return found


def _places(values: np.ndarray) -> np.ndarray:
    """Returns the middle of each value's place in order, over their number; equal ones in turn."""
    order = np.argsort(values, kind='stable')
    places = np.empty(len(values))
    places[order] = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    return places


def select(
    prompts: Sequence[str | Prompt], answers: Sequence[Answer], count: int, task: str
) -> list[Example]:
    """Returns the prompts whose answers the teacher is surest of, by `doubt`, as examples.

    Args:
      prompts: user messages.
      answers: to each of them.
      count: most examples to keep.
      task: for names and messages.

    Returns:
      At most `count` examples, in the order of `prompts`; answers without an end are left out.

    Raises:
      InputError: if no answer came to its end.
    """
    doubts = doubt(answers)
    order = [i for i in np.argsort(doubts, kind='stable')[:count] if np.isfinite(doubts[i])]
    if not order:
        raise InputError(
            f'{task}: the source model with its adapter finished none of {len(prompts)} answers; '
            'allow longer answers, or give other prompts'
        )
    return [
        example(task, prompts[i], answers[i].text, f'{task}/answered {i}') for i in sorted(order)
    ]
