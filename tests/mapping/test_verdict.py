"""Numbers become words, and no translation is recommended that nobody has looked at."""

import pytest

from lorajax.mapping import verdict
from lorajax.mapping.verdict import AVOID, CHECK, USE, Checked

KNOWN = {'loo_r2': 0.25, 'anchor_span_distances': [0.4, 0.6]}


@pytest.mark.parametrize(
    ('diagnostics', 'distance', 'word', 'reason'),
    [
        ({}, 0.5, CHECK, 'R2 0.25'),
        ({}, 0.7, CHECK, '0.70 of the adapter lies outside'),
        ({'loo_r2': None}, 0.5, CHECK, 'cannot leave one out'),
        ({'loo_r2': -0.1}, 0.5, AVOID, 'no better than their mean'),
        ({'fallback': 'mean'}, 0.5, AVOID, 'no better than their mean'),
    ],
)
def test_a_map_alone_is_never_more_than_to_be_checked(diagnostics, distance, word, reason):
    judged = verdict.of_map(KNOWN | diagnostics, {'distance_to_span': distance})
    assert judged.word == word and reason in judged.reason


def test_an_unchecked_rung_is_to_be_checked():
    assert verdict.of_map({'loo_r2': -0.1}, {}, 'reweighted').word == CHECK


@pytest.mark.parametrize(
    ('none', 'result', 'floor', 'word'),
    [
        (3.0, 0.2, 0.1, USE),
        (3.0, 1.0, 0.1, CHECK),
        (3.0, 2.0, 0.1, AVOID),
        (3.0, 3.1, 0.1, AVOID),
        (1.0, 0.05, None, USE),
        (0.1, 0.1, 0.2, AVOID),
    ],
)
def test_kept_out_answers_decide(none, result, floor, word):
    checked = Checked(none, result, floor, 8)
    assert verdict.of_check(checked).word == word


def test_what_nobody_vouches_for_is_to_be_checked():
    good = Checked(3.0, 0.2, 0.1, 8)
    assert verdict.of_check(good).word == USE
    judged = verdict.of_check(good._replace(is_backed=False))
    assert judged.word == CHECK and 'no pair of adapters' in judged.reason
    # Below a floor that is high: sure of what the teacher itself is not sure of.
    judged = verdict.of_check(good._replace(floor=0.4))
    assert judged.word == CHECK and 'unsure' in judged.reason


def test_the_gain_is_counted_above_the_floor():
    assert verdict.gain(Checked(3.0, 1.0, 1.0, 8)) == 1.0
    assert verdict.gain(Checked(3.0, 2.0, 1.0, 8)) == 0.5
    assert verdict.gain(Checked(1.0, 0.5, 1.0, 8)) == 0.0


def test_every_rung_says_what_it_needs():
    assert (
        verdict.NEEDS.keys() == verdict.SAW.keys() == {'map', 'reweighted', 'distilled', 'few-shot'}
    )
