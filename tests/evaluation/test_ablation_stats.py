"""Experiments 2 and 3 on cells that can be counted by hand."""

import pytest

from lorajax.errors import InputError
from lorajax.evaluation.ablation_stats import Baselines, experiment2, experiment3

ITEMS = [f'i{k}' for k in range(10)]
# Base gets the first 2 of 10, the oracle the first 8: a gap of 6 items on each task.
REFERENCE = {
    task: {
        'base': {item: k < 2 for k, item in enumerate(ITEMS)},
        'oracle': {item: k < 8 for k, item in enumerate(ITEMS)},
    }
    for task in ('one', 'two')
}


PROBLEMS = {task: {item: f'{task} {item}' for item in ITEMS} for task in REFERENCE}


def _baselines(usable, problems=PROBLEMS):
    return Baselines(REFERENCE, problems, usable)


def _rows(task, right, items=ITEMS, **extra):
    return [
        {'task': task, 'method': 'ridge', 'item': item, 'correct': k < right, **extra}
        for k, item in enumerate(items)
    ]


def test_experiment2_pools_tasks_and_draws():
    rows = {
        'one': _rows('one', 5, anchors=8, top_k=4, draw=0)
        + _rows('one', 2, anchors=8, top_k=4, draw=1)
        + _rows('one', 8, anchors=16, top_k='all', draw=0),
        'two': _rows('two', 8, anchors=8, top_k=4, draw=0)
        + _rows('two', 2, anchors=8, top_k=4, draw=1),
    }
    result = experiment2(rows, _baselines(['one', 'two']))
    assert result['run']
    few, many = result['cells']
    assert (few['method'], few['anchors'], few['top_k']) == ('ridge', 8, 4)
    assert few['draws'] == [0, 1] and few['n'] == 40
    assert few['gap_recovered_by_draw'] == [pytest.approx(9 / 12), 0.0]
    value, low, high = few['gap_recovered']
    assert value == pytest.approx(9 / 24) and low < value < high
    assert few['accuracy'] == pytest.approx((0.35 + 0.5) / 2)
    assert many['anchors'] == 16 and many['gap_recovered'] == [1.0, 1.0, 1.0]


def test_only_usable_tasks_count_and_a_subset_of_items_is_enough():
    rows = {
        'one': _rows('one', 4, ITEMS[:5], anchors=4, top_k=1, draw=0),
        'two': _rows('two', 0, anchors=4, top_k=1, draw=0),
    }
    cell = experiment2(rows, _baselines(['one']))['cells'][0]
    # Of the first five items base has 2, the oracle 5, the method 4.
    assert cell['gap_recovered'][0] == pytest.approx(2 / 3)
    nothing = experiment2(rows, _baselines([]))['cells'][0]
    assert nothing['gap_recovered'] == [None, None, None]
    assert nothing['accuracy'] == pytest.approx(0.4)


def test_cells_are_ordered_by_number_with_all_last():
    rows = {
        'one': [
            row
            for anchors, top_k in ((16, 'all'), (4, 'all'), (16, 2), (4, 16), (4, 2))
            for row in _rows('one', 3, anchors=anchors, top_k=top_k, draw=0)
        ]
    }
    cells = experiment2(rows, _baselines(['one']))['cells']
    order = [(cell['anchors'], cell['top_k']) for cell in cells]
    assert order == [(4, 2), (4, 16), (4, 'all'), (16, 2), (16, 'all')]


def test_experiment3_and_best_pool():
    rows = {
        'one': _rows('one', 6, pool='math', selected=['a', 'b'])
        + _rows('one', 3, pool='code')
        + _rows('one', 8, pool='all'),
        'two': _rows('two', 2, pool='math') + _rows('two', 5, pool='code'),
    }
    domains = {'one': 'math', 'two': 'code'}
    result = experiment3(rows, _baselines(['one', 'two']), domains)
    gaps = {(c['domain'], c['pool']): c['gap_recovered'][0] for c in result['cells']}
    assert gaps == {
        ('math', 'math'): pytest.approx(4 / 6),
        ('math', 'code'): pytest.approx(1 / 6),
        ('math', 'all'): 1.0,
        ('code', 'math'): 0.0,
        ('code', 'code'): 0.5,
    }
    assert result['best_pool'] == {'math': 'math', 'code': 'code'}
    assert result['selected'] == {'ridge': {'math': {'one': ['a', 'b']}}}
    pools = {(p['domain'], p['pool']): p for p in result['pools']}
    assert pools.keys() == gaps.keys()  # none is left out
    assert pools['math', 'code']['behind'][0] == pytest.approx(3 / 6)
    low, high = pools['math', 'code']['behind'][1:]
    assert 0 <= low < 0.5 < high
    assert pools['math', 'math']['behind'] is None
    assert pools['math', 'all']['behind'][0] == pytest.approx(-2 / 6)
    rows['two'] = _rows('two', 5, pool='math') + _rows('two', 5, pool='code')
    tied = experiment3(rows, _baselines(['one', 'two']), domains)
    assert tied['best_pool'] == {'math': 'math', 'code': None}
    assert tied['pools'][-1]['behind'] == [None, None, None]


def test_items_of_one_problem_are_resampled_together():
    rows = {task: _rows(task, 5, anchors=8, top_k='all', draw=0) for task in ('one', 'two')}
    same = {task: {item: item for item in ITEMS} for task in REFERENCE}
    pairs = {task: {item: k // 5 for k, item in enumerate(ITEMS)} for task in REFERENCE}
    usable = ['one', 'two']
    widths = []
    for problems in (PROBLEMS, same, pairs):
        cell = experiment2(rows, _baselines(usable, problems))['cells'][0]
        value, low, high = cell['gap_recovered']
        assert value == 0.5
        widths.append(high - low)
    # Two copies of ten problems say as much as ten: wider by sqrt(2). Of two problems of ten
    # items each, one alone recovers all of its gap and the other none.
    assert widths[1] / widths[0] == pytest.approx(2**0.5, rel=0.2)
    assert widths[2] == 1.0


def test_nothing_run():
    assert experiment2({}, _baselines([])) == {'run': False, 'cells': []}
    empty = experiment3({}, _baselines([]), {})
    assert empty == {'run': False, 'cells': [], 'best_pool': {}, 'pools': [], 'selected': {}}


def test_bad_rows_are_named():
    with pytest.raises(InputError, match="outcomes of one: a row of ridge has no 'draw'"):
        experiment2({'one': _rows('one', 1, anchors=4, top_k=1)}, _baselines([]))
    with pytest.raises(InputError, match="item 'other' is not among those of experiment 1"):
        rows = {'one': _rows('one', 1, ['other'], pool='math')}
        experiment3(rows, _baselines([]), {'one': 'math'})
