"""Which way to take from one base model to another, by what can be known beforehand.

What counts is how alike the bases are, and what there is beside them: pairs of adapters, prompts,
labels, a training. Each sentence comes with the figure behind it, measured in toy worlds and one
of text (docs/results.md, "Near relatives", "The ladder", "A text world");
`benchmarks/relatedness.py` checks that what is said here is within 0.05 of the best way at each
distance.
"""

import math
from typing import NamedTuple

COPY, MAP, REWEIGHTED, DISTILLED, FEW_SHOT, TRAIN = (
    'copy', 'map', 'reweighted', 'distilled', 'few-shot', 'train'
)  # fmt: skip
SAME = 0.995  # weight cosine of bases between which an adapter is copied
_RELATED = 0.9  # of bases of which one was made from the other
_FEW, _ENOUGH = 4, 12  # pairs: fewer do harm in nine cases of ten, from here on in one of three
_PROMPTS, _MANY_PROMPTS = 8, 32
_TEXT = '0.52 to 0.72 in four of real text'
_TRAINED = 'trained on answers to 32, 1.00 in toy worlds and 0.70 to 0.85 in three of real text'


class Known(NamedTuple):
    """What is known before anything is translated.

    Attributes:
      anchors: pairs of adapters.
      weight_cosine: of the two bases, NaN where they have no kernel of one shape in common; None if
        nobody looked.
      left_out: share of the gain in loss that left-out pairs have, their median; None if they were
        not tried.
      prompts: of the task's kind, without answers, with both base models to hand.
      labels: examples of the task, with the target model to hand.
      can_train: whether the target may be trained on answers to the prompts.
    """

    anchors: int = 0
    weight_cosine: float | None = None
    left_out: float | None = None
    prompts: int = 0
    labels: int = 0
    can_train: bool = False


class Advice(NamedTuple):
    """Attributes: rung: one of the ways above; words: what to do; reason: the figure behind it."""

    rung: str
    words: str
    reason: str

    def __str__(self) -> str:
        return f'{self.words} ({self.reason})'


def likeness(weight_cosine: float) -> str:
    """Returns how alike two bases are, in words."""
    if math.isnan(weight_cosine):
        return 'the base models have no kernel of one shape in common: strangers'
    kind = 'strangers'
    if weight_cosine >= _RELATED:
        kind = 'nearly the same' if weight_cosine >= SAME else 'relatives'
    return f'cosine of the base weights: {weight_cosine:.3f}, {kind}'


def advise(known: Known) -> Advice:
    """Returns the best way for what there is."""
    cosine = -math.inf if known.weight_cosine is None else known.weight_cosine
    if cosine >= SAME:
        return Advice(
            COPY, 'use the adapter as it is, on a base that is nearly the same',
            f'weight cosine {cosine:.3f}; a copy has 1.00 of the gap at 1, 0.06 and 0.52 at 0.988',
        )  # fmt: skip
    if known.prompts >= _PROMPTS:
        return _by_prompts(known)
    if known.labels >= _PROMPTS:
        return _by_labels(known)
    if known.anchors:
        return _by_pairs(known, is_related=cosine >= _RELATED)
    if cosine >= _RELATED:
        return Advice(
            COPY, 'copy the adapter and check it, as there are no pairs and no prompts',
            f'weight cosine {cosine:.3f}; a copy has 0.06 and 0.52 of the gap at 0.988',
        )  # fmt: skip
    return Advice(
        TRAIN, 'make pairs of adapters or collect prompts, or train again',
        'without any, ways that look at base weights or activations have 0.00 of the gap',
    )  # fmt: skip


def _by_prompts(known: Known) -> Advice:
    """The best way where the source can be asked."""
    if known.can_train and (known.prompts >= _MANY_PROMPTS or not known.anchors):
        figure = f'1.00 of the gap from hundreds of prompts; {_TRAINED}'
        return Advice(DISTILLED, "train on the source's answers to the prompts", figure)
    if not known.anchors:
        figure = 'without pairs there is nothing to weigh; hundreds of prompts have 1.00 of the gap'
        return Advice(DISTILLED, "train on the source's answers, for which more is needed", figure)
    if known.prompts >= _MANY_PROMPTS:
        return Advice(
            REWEIGHTED, "put the pairs together anew to fit the source's answers",
            f'from 32 prompts 1.00 of the gap in toy worlds and {_TEXT}; {_TRAINED}',
        )  # fmt: skip
    return Advice(
        REWEIGHTED, "put the pairs together anew to fit the source's answers to the prompts",
        f'0.94 of the gap from {_PROMPTS} prompts of the task and 16 pairs, where the map alone '
        'has 0.51',
    )  # fmt: skip


def _by_labels(known: Known) -> Advice:
    """The best way where answers are known."""
    if not known.anchors:
        return Advice(TRAIN, 'train on the labelled examples', 'no pairs to start from')
    figure = '0.96 of the gap from 8 examples and 16 pairs in six toy worlds'
    return Advice(FEW_SHOT, 'put the pairs together anew to fit the labelled examples', figure)


def _by_pairs(known: Known, is_related: bool) -> Advice:
    """What a map alone is good for."""
    more = f'{_PROMPTS} prompts of the task without answers would give 0.94 of the gap'
    pairs = f'{known.anchors} pairs'
    if known.left_out is not None:
        figure = f'left-out pairs have {known.left_out:.2f} of the gain in loss'
        if known.left_out <= 0:
            return Advice(TRAIN, f'do not use the map alone; {more}', f'{pairs}; {figure}')
        return Advice(MAP, f'check what the map makes before you use it; {more}', figure)
    if known.anchors < _FEW:
        figure = f'{pairs}; below {_FEW} nine maps of ten are worse than no adapter'
        return Advice(TRAIN, f'do not use the map alone; {more}', figure)
    if known.anchors < _ENOUGH:
        figure = f'{pairs}; from 4 to 8 half or more of all maps are worse than no adapter'
        return Advice(MAP, f'check what the map makes before you use it; {more}', figure)
    figure = '0.51 [0.38, 0.64] of the gap between unrelated models, from 16 pairs'
    if is_related:
        figure = '0.33 to 0.92 of the gap from 16 pairs where the target was trained on'
    return Advice(MAP, f'check what the map makes before you use it; {more}', figure)
