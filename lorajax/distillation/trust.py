"""Which answers of a teacher to trust: would an adapter of the target give them, too?

Where prompts are not what the adapter was trained for, two models with adapters of one task answer
differently, and learning such answers does harm. Pairs of adapters show where they agree. Two signs
tell it of an adapter that has no pair: how sure the source is of its answer, and how strongly the
adapter responds to the prompt (`response`). The second tells prompts of its kind from others, one
by one, where kinds differ in their words. Where it says nothing of which anchors agree with their
pair, certainty alone decides, of all answers together: that of a single one tells little.
"""

from typing import NamedTuple

import numpy as np

# All chosen on left-out anchors of three toy worlds (docs/results.md).
_LOG_LOSSES = 2.0  # as much as a unit of the score
_SPREAD = 0.3  # of the anchors' responses, as much as a unit of the score
_LEAST_SPREAD = 0.05  # of them; a factor of 1.05
_BANDWIDTH = 0.35  # of mean log losses, by which sets are alike
_ALONE = 0.25  # anchors that the teacher's own word for its answers weighs as much as
_LEAST_TRUST = 0.5  # below it answers are more often wrong than right for the target
_LEAST_SHARE = 0.15  # of the answers; fewer are taken for chance
_BACKED = 1.0  # anchors that are alike, by weight of the kernel, which back an answer
_SURE = 0.1  # of the bare target's loss: a teacher that is surer needs no anchor that is alike
_LEAST_ANCHORS = 3  # from which it is seen whether responses tell anything
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
    The teacher's own word, that the target would be as sure, counts as well, so answers beyond any
    anchor's are believed, if the teacher is sure by itself, too. Trust is the part of the bare
    target's loss that the adapter would remove.

    Where certainty alone predicts better whether left-out anchors agree with their pair, the score
    is the mean certainty, and all answers get the same trust.

    Args:
      teacher: of N answers.
      plain: float[N], nats per token of them under the bare target.
      anchors: of the answers of A anchors to the same prompts, [A, N].
      pair_losses: float[A, N], of these under the target with the anchor's other adapter.

    Returns:
      Weights of 1 for finished answers if there are no anchors.

    Source: the kernel mean is that of Nadaraya 1964 and Watson 1964.
    """
    finished, ended = np.isfinite(teacher.losses), np.isfinite(anchors.losses)
    if not ended.any() or not finished.any():
        return Trust(finished.astype(np.float64), is_backed=False)
    without = max(float(plain[finished].mean()), 1e-9)
    unit = max(_SPREAD * float(anchors.responses.std()), _LEAST_SPREAD)
    own = Signs(teacher.losses[finished], teacher.responses[finished])
    if _responses_tell(anchors, np.minimum(pair_losses, 2 * without), unit):
        known = _score(anchors, unit)[ended], pair_losses[ended]
        highest, near = _one_by_one(_score(own, unit), own.losses, *known)
        near /= len(plain)
        losses = own.losses
    else:
        highest, near = _as_a_set(own.losses, *_means(anchors.losses, pair_losses))
        losses = own.losses.mean()
    is_backed = near >= _BACKED
    value = np.minimum(1.0 - highest / without, 1.0)
    is_sure = losses <= _SURE * without
    value = np.where((value >= _LEAST_TRUST) & (is_backed | is_sure), value, 0.0)
    weights = np.zeros(len(plain))
    weights[finished] = value
    if np.count_nonzero(weights) < _LEAST_SHARE * len(plain):
        weights[:] = 0.0
    backing = np.broadcast_to(is_backed, finished.sum())[weights[finished] > 0]
    return Trust(weights, bool(len(backing) and backing.mean() > 0.5))


def _responses_tell(anchors: Signs, pair_losses: np.ndarray, unit: float) -> bool:
    """Returns whether responses help to predict the losses of anchors that are left out."""
    if len(pair_losses) < _LEAST_ANCHORS:
        return True
    ended = np.isfinite(anchors.losses)
    silent = Signs(anchors.losses, np.zeros_like(anchors.responses))
    errors = []
    for signs in (anchors, silent):
        score, total = _score(signs, unit), 0.0
        for one in range(len(score)):
            others = ended.copy()
            others[one] = False
            if others.any() and ended[one].any():
                near = _near(score[one][ended[one]], score[others]) + 1e-9
                expected = near @ pair_losses[others] / near.sum(axis=1)
                total += float(((expected - pair_losses[one][ended[one]]) ** 2).sum())
        errors.append(total)
    return errors[0] <= errors[1]


def _one_by_one(
    own: np.ndarray, losses: np.ndarray, known: np.ndarray, known_losses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts the losses of answers by their scores.

    Returns:
      float64[N], the highest prediction from each score on; float64[N], how many known answers are
      near, by weight.
    """
    places, values = np.concatenate([known, own]), np.concatenate([known_losses, losses])
    counts = np.concatenate([np.ones(len(known)), np.full(len(own), _ALONE)])
    knots = np.unique(np.concatenate([np.quantile(places, np.linspace(0, 1, _KNOTS)), own]))
    near = _near(knots, places) * counts
    total = near.sum(axis=1)
    # Between answers that are far apart nothing is near, and nothing is predicted.
    expected = np.full(len(knots), -np.inf)
    np.divide(near @ values, total, out=expected, where=total > 0)
    highest = np.maximum.accumulate(expected[::-1])[::-1]
    return highest[np.searchsorted(knots, own)], _near(own, known).sum(axis=1)


def _as_a_set(
    losses: np.ndarray, known: np.ndarray, known_losses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts the loss of all answers together by their mean certainty.

    Args:
      losses: float[N], of the teacher.
      known: float[A], mean log losses of the anchors.
      known_losses: float[A], means of their pairs.

    Returns:
      float64[], the highest prediction for those that are as sure or surer; float64[], how many
      anchors are near, by weight.
    """
    own = _mean_log(losses)
    places, values = np.append(known, own), np.append(known_losses, losses.mean())
    near = _near(places / _BANDWIDTH, places / _BANDWIDTH)
    expected = near @ values / near.sum(axis=1)
    return expected[places <= own].max(), near[-1, :-1].sum()


def _means(losses: np.ndarray, pair_losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean log losses and the pairs' mean losses, of anchors with answers that ended."""
    both = zip(losses, pair_losses, strict=True)
    ended = [(own[there], pair[there]) for own, pair in both if (there := np.isfinite(own)).any()]
    return np.array([_mean_log(own) for own, _ in ended]), np.array([p.mean() for _, p in ended])


def _mean_log(losses: np.ndarray) -> float:
    """Returns the mean logarithm of losses, bounded where one is nothing."""
    return float(np.log(np.maximum(losses, 1e-6)).mean())


def _score(signs: Signs, unit: float) -> np.ndarray:
    """Returns float64[..., N], higher where adapters of both models more likely agree."""
    certainty = -np.log(np.clip(signs.losses, 1e-6, None)) / _LOG_LOSSES
    return certainty + signs.responses / unit


def _near(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns float64[N, M], the kernel of two sets of scores."""
    return np.exp(-0.5 * (places[:, None] - others) ** 2)
