"""Which answers of a teacher to trust: would an adapter of the target give them, too?

Where prompts are not what the adapter was trained for, two models with adapters of one task answer
differently, and learning such answers does harm. Pairs of adapters show where they agree. Two signs
tell it of an adapter that has no pair: how sure the source is of its answer, and how strongly the
adapter responds to the prompt (`response`). The second tells prompts of its kind from others, one
by one.
"""

from typing import NamedTuple

import numpy as np

# All chosen on left-out anchors of three toy worlds (docs/results.md).
_LOG_LOSSES = 2.0  # as much as a unit of the score
_SPREAD = 0.3  # of the anchors' responses, as much as a unit of the score
_LEAST_SPREAD = 0.05  # of them; a factor of 1.05
_ALONE = 0.25  # anchors that the teacher's own word for its answers weighs as much as
_LEAST_TRUST = 0.5  # below it answers are more often wrong than right for the target
_LEAST_SHARE = 0.15  # of the answers; fewer are taken for chance
_BACKED = 1.0  # anchors that are alike, by weight of the kernel, which back an answer
_SURE = 0.1  # of the bare target's loss: a teacher that is surer needs no anchor that is alike
_KNOTS = 64


class Signs(NamedTuple):
    """What is seen of answers without the target.

    Attributes:
      losses: float[..., N], nats per token under the model that gave them; inf for unfinished ones.
      responses: float[..., N], of the adapter to the prompts, see `response.relative`.
    """

    losses: np.ndarray
    responses: np.ndarray


class Trust(NamedTuple):
    """How far answers should be learned.

    Attributes:
      weights: float64[N] in [0, 1], 0 for unfinished answers and where there is little to trust.
      is_backed: whether anchors back most of the answers that count: pairs of adapters spoke for
        these. Others rest on the teacher's certainty alone.
    """

    weights: np.ndarray
    is_backed: bool


def trust(teacher: Signs, plain: np.ndarray, anchors: Signs, pair_losses: np.ndarray) -> Trust:
    """Returns how far a target should learn each answer, from how pairs of adapters agree.

    It is predicted how unlikely an answer would be with the adapter of the target that is looked
    for: by a kernel mean over the anchors' answers to the same prompts, along one score that grows
    with how sure the source is and with how strongly its adapter responds. An answer is believed no
    more than one of a higher score: the prediction is the highest from the answer's own score on.
    The teacher's own word, that the target would be as sure, weighs as much as a quarter of an
    anchor, so answers beyond any anchor's are believed, if the teacher is sure by itself, too.
    Trust is the part of the bare target's loss that the adapter would remove.

    Args:
      teacher: of N answers.
      plain: float[N], nats per token of them under the bare target.
      anchors: of the answers of A anchors to the same prompts, [A, N].
      pair_losses: float[A, N], of these under the target with the anchor's other adapter.

    Returns:
      Weights of 1 for finished answers if there are no anchors.

    Source: the kernel mean is that of Nadaraya 1964 and Watson 1964.
    """
    finished = np.isfinite(teacher.losses)
    ended = np.isfinite(anchors.losses)
    if not ended.any() or not finished.any():
        return Trust(finished.astype(np.float64), is_backed=False)
    unit = max(_SPREAD * float(anchors.responses.std()), _LEAST_SPREAD)
    own, known = (_score(signs, unit)[there] for signs, there in
                  ((teacher, finished), (anchors, ended)))  # fmt: skip
    places = np.concatenate([known, own])
    values = np.concatenate([pair_losses[ended], teacher.losses[finished]])
    counts = np.concatenate([np.ones(len(known)), np.full(len(own), _ALONE)])
    knots = np.unique(np.concatenate([np.quantile(places, np.linspace(0, 1, _KNOTS)), own]))
    near = _near(knots, places) * counts
    expected = near @ values / near.sum(axis=1)
    highest = np.maximum.accumulate(expected[::-1])[::-1][np.searchsorted(knots, own)]
    without = max(float(plain[finished].mean()), 1e-9)
    is_backed = _near(own, known).sum(axis=1) / len(plain) >= _BACKED
    is_sure = teacher.losses[finished] <= _SURE * without
    value = np.minimum(1.0 - highest / without, 1.0)
    value[(value < _LEAST_TRUST) | ~(is_backed | is_sure)] = 0.0
    if np.count_nonzero(value) < _LEAST_SHARE * len(plain):
        value[:] = 0.0
    weights = np.zeros(len(plain))
    weights[finished] = value
    backing = is_backed[value > 0]
    return Trust(weights, bool(len(backing) and backing.mean() > 0.5))


def _score(signs: Signs, unit: float) -> np.ndarray:
    """Returns float64[..., N], higher where adapters of both models more likely agree."""
    certainty = -np.log(np.clip(signs.losses, 1e-6, None)) / _LOG_LOSSES
    return certainty + signs.responses / unit


def _near(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns float64[N, M], the kernel of two sets of scores."""
    return np.exp(-0.5 * (places[:, None] - others) ** 2)
