"""Intervals and tests against their formulas, and against simulated data with a known answer."""

import math

import numpy as np
import pytest

from lorajax.evaluation import intervals


@pytest.mark.parametrize('n', [1, 2, 7, 299, 300, 1319])
def test_wilson_equals_the_formula(n):
    z = 1.959963984540054  # 97.5 % point of the standard normal distribution
    for correct in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        rate = correct / n
        centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
        expected = [centre - half, centre + half]
        assert intervals.wilson(correct, n) == pytest.approx(expected, abs=1e-12)


def test_wilson_at_the_ends():
    assert intervals.wilson(0, 0) is None
    assert intervals.wilson(0, 10)[0] == 0.0
    assert intervals.wilson(10, 10)[1] == 1.0


def test_mcnemar_equals_the_sum_of_tails():
    for gained in range(0, 25, 3):
        for lost in range(0, 25, 4):
            n = gained + lost
            tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
            expected = min(1.0, 2 * tail / 2**n)
            assert intervals.mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_extremes():
    assert intervals.mcnemar(0, 0) == 1.0
    assert intervals.mcnemar(700, 600) == intervals.mcnemar(600, 700) < 0.01
    assert 0.0 <= intervals.mcnemar(2000, 0) < 1e-300


def _answers(generator, n):
    """Base, method and oracle with accuracies 0.3, 0.4, 0.6 on items of shared difficulty."""
    shared = generator.random(n)
    columns = {}
    for name, rate in (('base', 0.3), ('method', 0.4), ('oracle', 0.6)):
        own = np.where(generator.random(n) < 0.7, shared, generator.random(n))
        columns[name] = (own < rate).astype(float)
    return columns


def _gap_interval(sums):
    gain = np.sum([s['method'] - s['base'] for s in sums.values()], axis=0)
    gap = np.sum([s['oracle'] - s['base'] for s in sums.values()], axis=0)
    return intervals.ratio_interval(gain, gap)


def test_bootstrap_interval_of_the_pooled_gap_covers_the_truth():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        values = {task: _answers(generator, 120) for task in 'abc'}
        low, high = _gap_interval(intervals.resample(values, num_draws=300)[0])
        covered.append(low <= 1 / 3 <= high)
    # 95 % nominal; 200 simulations have a standard error of 1.5 points.
    assert 0.90 <= np.mean(covered) <= 0.99


def test_clustered_bootstrap_covers_where_items_repeat():
    generator = np.random.default_rng(1)
    covered, naive = [], []
    for _ in range(100):
        once = _answers(generator, 120)
        values = {task: {m: np.repeat(v, 4) for m, v in once.items()} for task in 'ab'}
        clusters = {task: np.repeat(np.arange(120), 4).tolist() for task in 'ab'}
        low, high = _gap_interval(intervals.resample(values, clusters, 300)[0])
        covered.append(low <= 1 / 3 <= high)
        low, high = _gap_interval(intervals.resample(values, None, 300)[0])
        naive.append(low <= 1 / 3 <= high)
    assert 0.88 <= np.mean(covered) <= 1.0
    assert np.mean(naive) < 0.7  # eight copies of a problem are not eight problems


def test_resample_keeps_tasks_as_strata_and_pairs_methods():
    values = {'a': {'x': np.ones(30), 'y': np.ones(30)}, 'b': {'x': np.arange(20.0)}}
    sums, sizes = intervals.resample(values, num_draws=50)
    assert np.all(sizes['a'] == 30) and np.all(sizes['b'] == 20)
    assert np.all(sums['a']['x'] == 30) and np.array_equal(sums['a']['x'], sums['a']['y'])
    assert sums['b']['x'].mean() == pytest.approx(190, rel=0.1)


def test_resample_is_deterministic_and_takes_empty_tasks():
    values = {'a': {'x': np.arange(9.0)}, 'none': {'x': []}}
    first, _ = intervals.resample(values, num_draws=10)
    second, _ = intervals.resample(values, num_draws=10)
    assert np.array_equal(first['a']['x'], second['a']['x'])
    assert np.all(first['none']['x'] == 0)


def test_linked_groups_join_through_a_third_task():
    clusters = {'a': [1, 2], 'b': [3], 'c': [2, 3], 'd': [9]}
    groups = intervals.linked_groups(clusters)
    assert [sorted(group) for group in groups] == [['a', 'b', 'c'], ['d']]


def test_shared_problems_are_picked_together():
    values = {'a': {'x': np.arange(12.0)}, 'b': {'x': np.arange(12.0)}}
    names = [f'problem {i}' for i in range(12)]
    sums, _ = intervals.resample(values, {'a': names, 'b': names}, 40)
    assert np.array_equal(sums['a']['x'], sums['b']['x'])
    apart, _ = intervals.resample(values, None, 40)
    assert not np.array_equal(apart['a']['x'], apart['b']['x'])


def test_ratio_interval_is_withheld_when_the_gap_may_be_zero():
    generator = np.random.default_rng(0)
    gain, gap = generator.normal(1, 1, 500), generator.normal(1, 1, 500)
    assert intervals.ratio_interval(gain, gap) == [None, None]
    low, high = intervals.ratio_interval(gain, gap + 10)
    assert low < high


def test_counts_are_drawn_as_binomials():
    draws = intervals.resample_counts({'a': {'x': 30, 'y': 0}, 'e': {'x': 0}}, {'a': 100, 'e': 0})
    assert draws['a']['x'].mean() == pytest.approx(30, abs=0.5)
    assert draws['a']['x'].std() == pytest.approx(np.sqrt(21), rel=0.06)
    assert np.all(draws['a']['y'] == 0) and np.all(draws['e']['x'] == 0)
