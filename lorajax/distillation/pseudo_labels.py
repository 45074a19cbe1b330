"""Pseudo-labels: the answers of a teacher that are worth learning.

`select` keeps those of which the teacher is surest, in place of the trained discriminator of
Trans-LoRA (Wang et al. 2024, arXiv 2405.17258). Where pairs of adapters are at hand, `trust` asks
more.
"""

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


def select(
    prompts: Sequence[str | Prompt], answers: Sequence[Answer], count: int, task: str
) -> list[Example]:
    """Returns the prompts whose answers the teacher is surest of, as training examples.

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
    losses = np.array([answer.nll for answer in answers])
    order = [i for i in np.argsort(losses, kind='stable')[:count] if np.isfinite(losses[i])]
    if not order:
        raise InputError(
            f'{task}: the source model with its adapter finished none of {len(prompts)} answers; '
            'allow longer answers, or give other prompts'
        )
    return [
        example(task, prompts[i], answers[i].text, f'{task}/answered {i}') for i in sorted(order)
    ]
