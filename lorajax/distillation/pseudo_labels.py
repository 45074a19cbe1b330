"""Pseudo-labels: the answers of a teacher that are worth learning.

`select` keeps those of which the teacher is surest, in place of the trained discriminator of
Trans-LoRA (Wang et al. 2024, arXiv 2405.17258). `trust` asks more: would an adapter of the target
give these answers, too? Where prompts are not what the adapter was trained for, two models with
adapters of one task answer differently, and learning such answers does harm. Pairs of adapters
show how sure a teacher is where the pair agrees.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lorajax.distillation.teacher import Answer
from lorajax.errors import InputError
from lorajax.tasks.task import Example, Prompt

# All chosen on left-out anchors of three toy worlds (docs/log.md).
_BANDWIDTH = 0.35  # of mean log losses; two of them are alike within it, roughly
_LEAST_TRUST = 0.5  # below it answers are more often wrong than right for the target
_BACKED = 1.0  # anchors that are as sure, by weight of the kernel, which make a set backed
_SURE = 0.1  # of the bare target's loss: a teacher that is surer needs no anchor that is as sure


class Trust(NamedTuple):
    """How far answers should be learned.

    Attributes:
      weights: float64[N] in [0, 1], 0 for unfinished answers and where there is little to trust.
      is_backed: whether some anchors are as sure of their answers to the same prompts, so that
        pairs of adapters spoke for these answers. Others rest on the teacher's certainty alone.
    """

    weights: np.ndarray
    is_backed: bool


def trust(
    losses: np.ndarray, plain: np.ndarray, anchor_losses: np.ndarray, pair_losses: np.ndarray
) -> Trust:
    """Returns how far a target should learn a teacher's answers, from how pairs of adapters agree.

    It is predicted how unlikely the answers would be with the adapter of the target that is looked
    for: from anchors that were as sure of their answers to the same prompts, by a kernel mean over
    the mean logarithm of the loss. A teacher is believed no more than a surer one: the prediction
    is the highest at any certainty from the teacher's own on. One observation beside the anchors
    says that the target would be as sure as the teacher, so answers of which the teacher is far
    surer than any anchor are believed, if it is sure by itself, too. Trust is the part of the bare
    target's loss that the adapter would remove. All answers get the same: how sure a teacher is of
    a single one tells little of its kind.

    Args:
      losses: float[N], nats per token of the answers under the teacher; inf for unfinished ones.
      plain: float[N], of the same answers under the bare target.
      anchor_losses: float[A, N], of the anchors' answers under the source model with each.
      pair_losses: float[A, N], of these under the target with the anchor's adapter.

    Returns:
      Weights of 1 for finished answers if there are no anchors.

    Source: the kernel mean is that of Nadaraya 1964 and Watson 1964.
    """
    finished = np.isfinite(losses)
    if not len(anchor_losses) or not finished.any():
        return Trust(finished.astype(np.float64), is_backed=False)
    known = [(_mean_log(losses[finished]), losses[finished].mean())]
    for own, paired in zip(anchor_losses, pair_losses, strict=True):
        ended = np.isfinite(own)
        if ended.any():
            known.append((_mean_log(own[ended]), paired[ended].mean()))
    places, values = np.array(known).T
    near = np.exp(-0.5 * ((places[:, None] - places) / _BANDWIDTH) ** 2)
    expected = (near @ values / near.sum(axis=1))[places <= places[0]].max()
    is_backed = bool(near[0, 1:].sum() >= _BACKED)
    without = max(float(plain[finished].mean()), 1e-9)
    value = 1.0 - float(expected) / without
    is_sure = losses[finished].mean() <= _SURE * without
    if value < _LEAST_TRUST or not (is_backed or is_sure):
        value = 0.0
    return Trust(finished * min(value, 1.0), is_backed)


def _mean_log(losses: np.ndarray) -> float:
    """Returns the mean logarithm of losses, bounded where one is nothing."""
    return float(np.log(np.maximum(losses, 1e-6)).mean())


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
