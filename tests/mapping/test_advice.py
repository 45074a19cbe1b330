"""What is there decides the advice, and each piece of it comes with its figure."""

import numpy as np
import pytest

from lorajax.mapping import advice
from lorajax.mapping.advice import COPY, DISTILLED, FEW_SHOT, MAP, REWEIGHTED, TRAIN, Known


@pytest.mark.parametrize(
    ('known', 'rung', 'reason'),
    [
        ({}, TRAIN, '0.00 of the gap'),
        ({'weight_cosine': 1.0, 'anchors': 16, 'prompts': 32}, COPY, 'cosine 1.000'),
        ({'weight_cosine': 0.97}, COPY, '0.06 and 0.52 of the gap at 0.988'),
        ({'weight_cosine': 0.97, 'anchors': 16}, MAP, 'where the target was trained on'),
        ({'weight_cosine': np.nan, 'anchors': 16}, MAP, 'between unrelated models'),
        ({'anchors': 3}, TRAIN, '3 pairs; below 4'),
        ({'anchors': 8}, MAP, '8 pairs; from 4 to 8'),
        ({'anchors': 8, 'left_out': 0.6}, MAP, 'left-out pairs have 0.60'),
        ({'anchors': 16, 'left_out': -0.1}, TRAIN, 'left-out pairs have -0.10'),
        ({'anchors': 16, 'prompts': 7}, MAP, 'from 16 pairs'),
        ({'anchors': 16, 'prompts': 8}, REWEIGHTED, '0.94 of the gap from 8 prompts'),
        (
            {'anchors': 16, 'prompts': 40},
            REWEIGHTED,
            '0.52 to 0.72 in four of real text',
        ),
        ({'anchors': 16, 'prompts': 8, 'can_train': True}, REWEIGHTED, '0.94'),
        ({'anchors': 16, 'prompts': 32, 'can_train': True}, DISTILLED, '1.00 in toy'),
        ({'prompts': 32}, DISTILLED, 'nothing to weigh'),
        ({'prompts': 8, 'can_train': True}, DISTILLED, 'hundreds of prompts'),
        ({'anchors': 16, 'labels': 8}, FEW_SHOT, '0.96'),
        ({'labels': 8}, TRAIN, 'no pairs'),
    ],
)
def test_the_best_way_for_what_there_is(known, rung, reason):
    found = advice.advise(Known(**known))
    assert found.rung == rung and reason in found.reason
    assert str(found) == f'{found.words} ({found.reason})'


@pytest.mark.parametrize(
    ('cosine', 'words'),
    [(1.0, 'nearly the same'), (0.98, 'relatives'), (0.1, 'strangers'), (np.nan, 'no kernel')],
)
def test_likeness_in_words(cosine, words):
    assert words in advice.likeness(cosine)
