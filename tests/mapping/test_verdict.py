"""Numbers become words, and no translation is recommended that nobody has looked at."""

import pytest

from lorajax.mapping import verdict
from lorajax.mapping.verdict import AVOID, CHECK, USE, Checked

TASKS = [f't{i}' for i in range(16)]
KNOWN = {'loo_r2': 0.25, 'anchors': TASKS, 'anchor_span_distances': [0.4, 0.75]}


def measured(left_out):
    """Diagnostics of a mapping whose left-out anchors have this loss where nothing has 1."""
    row = {'none': 1.0, 'own': 0.0, 'left_out': left_out}
    known = {'functional': dict.fromkeys(TASKS, row), 'anchor_span_distances': [0.6] * 16}
    return KNOWN | known


@pytest.mark.parametrize(
    ('diagnostics', 'distance', 'word', 'reason'),
    [
        ({}, 0.6, CHECK, 'no model has seen the result'),
        ({}, 0.8, CHECK, '0.80 of the adapter lies outside'),
        ({'loo_r2': -0.1}, 0.6, AVOID, 'no better than their mean'),
        ({'fallback': 'mean'}, 0.6, AVOID, 'no better than their mean'),
        ({'anchors': TASKS[:1], 'loo_r2': None}, 0.6, AVOID, 'by 1 pairs of adapters'),
        ({'anchors': TASKS[:6]}, 0.95, AVOID, 'expected to have -0.'),
        (measured(1.5), 0.6, AVOID, 'predicted to be worse than no adapter'),
        (measured(0.5), 0.6, CHECK, 'left-out anchors and toy worlds'),
    ],
)
def test_a_map_alone_is_never_more_than_to_be_checked(diagnostics, distance, word, reason):
    judged = verdict.of_map(KNOWN | diagnostics, {'distance_to_span': distance})
    assert judged.word == word and reason in judged.reason


def test_harm_is_predicted_of_means_of_few_pairs_and_where_left_out_anchors_say_so():
    near, far = {'distance_to_span': 0.6}, {'distance_to_span': 0.95}
    assert verdict.harm_predicted(KNOWN, far) == ''
    assert verdict.harm_predicted(KNOWN | {'anchors': TASKS[:6]}, far) == ''  # toy worlds alone
    assert 'by 3 pairs' in verdict.harm_predicted(KNOWN | {'anchors': TASKS[:3]}, far)
    assert 'is that mean' in verdict.harm_predicted(KNOWN | {'fallback': 'mean'}, near)
    assert 'by 16 pairs' in verdict.harm_predicted(measured(1.5), near)
    assert verdict.harm_predicted(measured(0.5), near) == ''


def test_harm_is_seen_where_kept_out_answers_become_less_likely():
    assert verdict.harm_seen(Checked(1.0, 0.9, 0.1, 8)) == ''
    assert '(1.200 against 1.000 nats' in verdict.harm_seen(Checked(1.0, 1.2, 0.1, 8))


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
