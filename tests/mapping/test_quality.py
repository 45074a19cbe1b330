"""What is expected of a translation: by toy worlds, and by left-out anchors where there are any."""

import numpy as np
import pytest

from lorajax.mapping import quality, toy_shares


def diagnostics(count, left_out=None, distance=0.7):
    """Of a mapping whose anchors all lie at one distance, with losses of the left-out ones."""
    tasks = [f't{i}' for i in range(count)]
    known = {'anchors': tasks, 'anchor_span_distances': [distance] * count}
    if left_out is not None:
        row = {'none': 1.0, 'own': 0.0, 'left_out': left_out}
        known['functional'] = dict.fromkeys(tasks, row)
    return known


def expect(known, distance=0.7):
    return quality.expect(known, {'distance_to_span': distance})


def test_shares_count_from_no_adapter_to_the_tasks_own():
    row = {'none': 1.2, 'own': 0.2, 'left_out': 0.7}
    harmful = {**row, 'left_out': 2.2}
    nothing_to_gain = {**row, 'own': 1.2}
    found = quality.shares({'a': row, 'b': harmful, 'c': nothing_to_gain})
    assert found == {'a': pytest.approx(0.5), 'b': pytest.approx(-1.0)}


def test_few_anchors_are_expected_to_do_harm():
    for count in (1, 2, 3, 4):
        expected = expect(diagnostics(count), 0.95)
        assert expected.share < -0.2 and not expected.is_measured
    many = expect(diagnostics(16), 0.65)
    assert many.share > 0.8 and many.low < many.share < many.high
    assert expect(diagnostics(16), 0.95).share < many.share


def test_without_a_distance_the_worst_is_expected():
    assert quality.expect(diagnostics(8), {}) == expect(diagnostics(8), 1.0)


def test_left_out_anchors_outweigh_toy_worlds_where_they_are_near():
    poor = expect(diagnostics(64, left_out=0.95))
    assert poor.is_measured and poor.share == pytest.approx(0.05, abs=0.01)
    assert poor.high - poor.low < 0.2
    far = expect(diagnostics(64, left_out=0.95, distance=0.3))
    assert far.share == pytest.approx(expect(diagnostics(64)).share, abs=0.01)
    assert 'toy worlds' in poor.words and '0.05 of what' in poor.words


def test_a_method_that_toy_worlds_did_not_try_is_named():
    known = diagnostics(16)
    assert 'alone;' in expect({**known, 'method': 'matched_scaled'}).words
    assert 'these of matched_scaled and not of mean' in expect({**known, 'method': 'mean'}).words


def test_two_anchors_leave_nothing_to_predict_one_from():
    assert not expect(diagnostics(2, left_out=0.1)).is_measured


def test_toy_worlds_weigh_as_eight_anchors_and_anchors_by_their_distance():
    tasks = [f't{i:02d}' for i in range(16)]
    row = {'none': 1.0, 'own': 0.0}
    found = quality.expect(
        {
            'anchors': tasks,
            'anchor_span_distances': [0.7, 0.8, *[0.9] * 14],
            'functional': {'t00': {**row, 'left_out': 0.55}, 't01': {**row, 'left_out': 0.9}},
        },
        {'distance_to_span': 0.7},
    )
    # Ten quantiles of the toy worlds share the weight of eight anchors; 0.1 is two bandwidths.
    parts = [(share, 0.8) for share in toy_shares.SHARES[16][1]]
    parts = sorted([*parts, (0.45, 1.0), (0.1, np.exp(-2.0))])
    values, weights = np.array(parts).T
    places = (np.cumsum(weights) - weights / 2) / (9 + np.exp(-2.0))
    assert found[:3] == pytest.approx([np.interp(p, places, values) for p in (0.5, 0.1, 0.9)])
