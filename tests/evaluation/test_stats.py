"""Experiment 1: the seed's arithmetic, its edges, and what the outcomes add."""

import copy
import json

import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.evaluation import stats
from tests.seed_table import COUNTS, METHODS, PRINTED


@pytest.fixture(scope='module')
def seed() -> dict:
    return stats.experiment1(COUNTS)


def test_golden_rows_print_as_the_seed_printed_them(seed):
    lines = [
        ' '.join(
            [
                row['domain'],
                row['task'],
                *(f'{row["accuracy"][m]:.3f}' for m in METHODS),
                f'{row["oracle_minus_base_pp"]:.3f}',
                str(row['usable']),
                f'{row["gap_recovered"]:.3f}',
            ]
        )
        for row in seed['rows']
    ]
    assert lines == PRINTED


def test_golden_headline(seed):
    assert seed['headline'] == pytest.approx(28 / 1500)
    assert f'{seed["headline"]:.4f}' == '0.0187'
    assert seed['excluded'] == ['arc_challenge']
    assert seed['usable'] == [task for task in COUNTS if task != 'arc_challenge']
    assert seed['headline_chance'] is None  # needs the answers, not only their number


def test_golden_arc_challenge_is_three_and_a_half(seed):
    row = seed['rows'][4]
    assert row['gap_recovered'] == pytest.approx((221 - 214) / (216 - 214)) == 3.5
    assert row['best_method'] == 'pertensor_mlp'
    assert not row['usable'] and not row['usable_ci']


def test_golden_pooled_gap(seed):
    gap = (45 - 19) + (88 - 24) + (96 - 69) + (135 - 65) + (295 - 213)
    gain = (18 - 19) + (30 - 24) + (75 - 69) + (84 - 65) + (224 - 213)
    value, low, high = seed['pooled_gap_recovered']['global_ridge']
    assert value == pytest.approx(gain / gap)
    assert low < value < high
    assert set(seed['pooled_gap_recovered']) == set(METHODS) - {'base', 'oracle'}
    assert seed['bootstrap']['kind'] == 'independent binomials'


def test_result_is_json_and_deterministic(seed):
    assert json.dumps(seed, allow_nan=False) == json.dumps(stats.experiment1(COUNTS))


@pytest.mark.parametrize(('oracle', 'usable'), [(108, False), (109, True)])
def test_usable_starts_at_exactly_three_points(oracle, usable):
    row = stats.experiment1({'t': {'n': 300, 'base': 100, 'oracle': oracle}})['rows'][0]
    assert row['usable'] is usable


def test_order_of_equals_and_controls_do_not_win():
    counts = {'t': {'n': 10, 'base': 1, 'mean': 3, 'placebo': 9, 'x': 5, 'y': 5, 'oracle': 9}}
    result = stats.experiment1(counts)
    assert result['rows'][0]['best_method'] == 'x'
    assert result['headline'] == pytest.approx(0.2)
    assert result['learned_methods'] == ['x', 'y']
    changed = stats.experiment1(counts, reference_methods=('base', 'mean', 'oracle'))
    assert changed['headline'] == pytest.approx(0.6)


def test_missing_methods_and_empty_tasks():
    counts = {
        'full': {'n': 100, 'base': 10, 'mean': 20, 'x': 30, 'oracle': 50},
        'no_mean': {'n': 100, 'base': 10, 'x': 30, 'oracle': 50},
        'only': {'n': 100, 'base': 10, 'oracle': 50},
        'empty': {'n': 0, 'base': 0, 'mean': 0, 'x': 0, 'oracle': 0},
        'flat': {'n': 5, 'base': 2, 'mean': 3, 'x': 3, 'oracle': 2},
        'worse': {'n': 50, 'base': 20, 'mean': 18, 'x': 3, 'oracle': 10},
    }
    result = stats.experiment1(counts, domains={'full': 'math'})
    rows = {row['task']: row for row in result['rows']}
    assert result['usable'] == ['full', 'no_mean', 'only']
    assert result['headline'] == pytest.approx(0.1)
    assert result['pooled_gap_recovered']['x'][0] == pytest.approx(0.5)
    assert result['pooled_tasks'] == {'mean': ['full'], 'x': ['full', 'no_mean']}
    assert rows['full']['domain'] == 'math' and rows['flat']['domain'] == 'unknown'
    assert rows['only']['best_method'] is None and rows['only']['gap_recovered'] is None
    assert rows['empty']['accuracy']['x'] is None and rows['empty']['ci95']['x'] is None
    assert rows['empty']['oracle_minus_base_pp'] is None
    assert rows['flat']['gap_recovered'] is None and rows['worse']['gap_recovered'] is None
    json.dumps(result, allow_nan=False)


def test_nothing_usable():
    result = stats.experiment1({'t': {'n': 10, 'base': 5, 'mean': 5, 'x': 6, 'oracle': 5}})
    assert result['headline'] is None and result['pooled_gap_recovered'] == {}
    assert stats.experiment1({})['rows'] == []


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'mean': -1}, r'gsm_hard: mean = -1, expected 0 to n = 300'),
        ({'mean': 301}, r'gsm_hard: mean = 301, expected 0 to n = 300'),
        ({'mean': 1.5}, r'gsm_hard: mean = 1.5, expected a whole number'),
        ({'n': -1}, r'n = -1, expected 0 or more'),
        ({'base': None}, r'base = None'),
    ],
)
def test_impossible_counts(change, message):
    counts = copy.deepcopy(COUNTS)
    counts['gsm_hard'] |= change
    with pytest.raises(InputError, match=message):
        stats.experiment1(counts)


@pytest.mark.parametrize('name', ['n', 'base', 'oracle'])
def test_required_counts(name):
    counts = copy.deepcopy(COUNTS)
    del counts['mbpp_plus'][name]
    with pytest.raises(InputError, match=f"mbpp_plus: no '{name}'"):
        stats.experiment1(counts)


def _outcomes(generator, n=200):
    shared = generator.random(n)
    rates = {'base': 0.2, 'mean': 0.25, 'x': 0.3, 'y': 0.22, 'oracle': 0.6}
    return {m: (shared + 0.1 * generator.normal(size=n)) < rate for m, rate in rates.items()}


@pytest.fixture(scope='module')
def simulated() -> tuple[dict, dict]:
    generator = np.random.default_rng(0)
    outcomes = {task: _outcomes(generator) for task in ('a', 'b', 'c')}
    counts = {
        task: {'n': 200} | {m: int(v.sum()) for m, v in methods.items()}
        for task, methods in outcomes.items()
    }
    return counts, outcomes


def test_outcomes_narrow_the_intervals_and_keep_the_points(simulated):
    counts, outcomes = simulated
    alone = stats.experiment1(counts, selected_method='x')
    paired = stats.experiment1(counts, outcomes=outcomes, selected_method='x')
    assert paired['bootstrap']['kind'] == 'joint over items'
    for method, (value, low, high) in paired['pooled_gap_recovered'].items():
        other = alone['pooled_gap_recovered'][method]
        assert value == other[0] and low <= value <= high
        assert high - low < other[2] - other[1]
    assert paired['selected_minus_mean_pp'][0] == pytest.approx(
        np.mean([100 * (c['x'] - c['mean']) / 200 for c in counts.values()])
    )
    assert 0 < paired['headline_chance']['p_value'] <= 1
    row = paired['rows'][0]
    assert row['usable_ci'] and row['oracle_minus_base_ci95_pp'][0] > 0
    test = row['mcnemar']['x']['mean']
    assert test['gained'] - test['lost'] == counts['a']['x'] - counts['a']['mean']


def test_order_of_items_does_not_move_the_points(simulated):
    counts, outcomes = simulated
    turned = {t: {m: v[::-1] for m, v in methods.items()} for t, methods in outcomes.items()}
    one = stats.experiment1(counts, outcomes=outcomes)
    two = stats.experiment1(counts, outcomes=turned)
    assert one['headline'] == two['headline']
    assert one['rows'][1]['mcnemar'] == two['rows'][1]['mcnemar']


def test_base_recovers_nothing_and_oracle_everything(simulated):
    counts, outcomes = simulated
    doubled = {
        t: {**methods, 'like_base': methods['base'], 'like_oracle': methods['oracle']}
        for t, methods in outcomes.items()
    }
    counts = {
        t: {**row, 'like_base': row['base'], 'like_oracle': row['oracle']}
        for t, row in counts.items()
    }
    pooled = stats.experiment1(counts, outcomes=doubled)['pooled_gap_recovered']
    assert pooled['like_base'] == [0.0, 0.0, 0.0]
    assert pooled['like_oracle'] == [1.0, 1.0, 1.0]


def test_outcomes_must_agree_with_counts(simulated):
    counts, outcomes = simulated
    wrong = {**counts, 'a': {**counts['a'], 'x': counts['a']['x'] + 1}}
    with pytest.raises(InputError, match='outcomes of a: x has'):
        stats.experiment1(wrong, outcomes=outcomes)
    with pytest.raises(InputError, match='outcomes of b: no answers of base'):
        stats.experiment1(counts, outcomes={'a': outcomes['a']})


def test_selected_method_must_have_been_scored():
    with pytest.raises(InputError, match="selected_method: 'nobody' has no outcomes"):
        stats.experiment1(COUNTS, selected_method='nobody')


def test_loss_gap(simulated):
    counts, outcomes = simulated
    generator = np.random.default_rng(1)
    item = generator.random(200)
    levels = {'base': 2.0, 'x': 1.75, 'oracle': 1.0}
    nll = {
        'a': {m: v + item for m, v in levels.items()},
        'b': {'base': 1.0, 'x': 0.8, 'oracle': 0.5},
    }
    result = stats.experiment1(counts, outcomes=outcomes, nll=nll)
    rows = {row['task']: row for row in result['rows']}
    assert rows['a']['nll_gap_recovered'] == {'x': pytest.approx(0.25)}
    assert rows['b']['nll_gap_recovered'] == {'x': pytest.approx(0.4)}
    assert rows['c']['nll'] == {}
    value, low, high = result['pooled_nll_gap_recovered']['x']
    assert value == pytest.approx(0.45 / 1.5)
    assert low <= value + 1e-12 and high >= value - 1e-12


def test_loss_without_a_gap_is_left_out(simulated):
    counts, _ = simulated
    result = stats.experiment1(counts, nll={'a': {'base': 1.0, 'x': 0.5, 'oracle': 1.5}})
    assert result['rows'][0]['nll_gap_recovered'] == {'x': None}
    assert result['pooled_nll_gap_recovered'] == {}
