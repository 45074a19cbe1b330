"""Pseudo-labels: the answers of a teacher that are worth learning.

`select` keeps those of which the teacher is surest, in place of the trained discriminator of
Trans-LoRA (Wang et al. 2024, arXiv 2405.17258). `trust` asks more: would an adapter of the target
give these answers, too? Where prompts are not what the adapter was trained for, two models with
adapters of one task answer differently, and learning such answers does harm. Pairs of adapters
show how sure a teacher is where the pair agrees.
"""

from collections.abc import Sequence

import numpy as np

from lorajax.distillation.teacher import Answer
from lorajax.errors import InputError
from lorajax.tasks.task import Example

# Two mean losses are like each other within this factor, roughly.
_BANDWIDTH = 0.35  # of the logarithm; chosen on left-out anchors of the demo's world
# Below this trust answers are more often wrong than right for the target, and are not learned.
_LEAST_TRUST = 0.5


def trust(
    losses: np.ndarray, plain: np.ndarray, anchor_losses: np.ndarray, pair_losses: np.ndarray
) -> np.ndarray:
    """Returns how far a target should learn a teacher's answers, from how pairs of adapters agree.

    It is predicted how unlikely the answers would be with the adapter of the target that is looked
    for: from anchors that were as sure of their answers to the same prompts, by a kernel mean over
    the mean logarithm of the loss. One observation beside the anchors says that the target would
    be as sure as the teacher, so answers of which the teacher is far surer than any anchor are
    believed. Trust is the part of the bare target's loss that the adapter would remove. All
    answers get the same: how sure a teacher is of a single one tells little of its kind.

    Args:
      losses: float[N], nats per token of the answers under the teacher; inf for unfinished ones.
      plain: float[N], of the same answers under the bare target.
      anchor_losses: float[A, N], of the anchors' answers under the source model with each.
      pair_losses: float[A, N], of these under the target with the anchor's adapter.

    Returns:
      float64[N] in [0, 1], 0 for unfinished answers and where there is little to trust; 1 for
      finished ones if there are no anchors.

    Source: the kernel mean is that of Nadaraya 1964 and Watson 1964.
    """
    finished = np.isfinite(losses)
    if not len(anchor_losses) or not finished.any():
        return finished.astype(np.float64)
    known = [(_mean_log(losses[finished]), losses[finished].mean())]
    for own, paired in zip(anchor_losses, pair_losses, strict=True):
        ended = np.isfinite(own)
        if ended.any():
            known.append((_mean_log(own[ended]), paired[ended].mean()))
    places, values = np.array(known).T
    near = np.exp(-0.5 * ((places - places[0]) / _BANDWIDTH) ** 2)
    expected = float(near @ values / near.sum())
    value = 1.0 - expected / max(float(plain[finished].mean()), 1e-9)
    return finished * (min(value, 1.0) if value >= _LEAST_TRUST else 0.0)


def _mean_log(losses: np.ndarray) -> float:
    """Returns the mean logarithm of losses, bounded where one is nothing."""
    return float(np.log(np.maximum(losses, 1e-6)).mean())


def select(
    prompts: Sequence[str], answers: Sequence[Answer], count: int, task: str
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
        Example(
            item=f'{task}/answered {i}',
            prompt=prompts[i],
            answer=answers[i].text,
            reference=answers[i].text,
            problem_ids=(),
            question=prompts[i],
        )
        for i in sorted(order)
    ]
