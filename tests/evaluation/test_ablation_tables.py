"""Experiments 2 and 3 on cells that can be counted by hand."""

import pytest

from lorajax.errors import InputError
from lorajax.evaluation import ablation_tables

ITEMS = [f'i{k}' for k in range(10)]
# Base gets the first 2 of 10, the oracle the first 8: a gap of 6 items on each task.
REFERENCE = {
    task: {
        'base': {item: k < 2 for k, item in enumerate(ITEMS)},
        'oracle': {item: k < 8 for k, item in enumerate(ITEMS)},
    }
    for task in ('one', 'two')
}


def _rows(task, right, items=ITEMS, **extra):
    return [
        {'task': task, 'method': 'ridge', 'item': item, 'correct': k < right, **extra}
        for k, item in enumerate(items)
    ]


def test_anchor_scaling_pools_tasks_and_draws():
    rows = {
        'one': _rows('one', 5, anchors=8, top_k=4, draw=0)
        + _rows('one', 2, anchors=8, top_k=4, draw=1)
        + _rows('one', 8, anchors=16, top_k='all', draw=0),
        'two': _rows('two', 8, anchors=8, top_k=4, draw=0)
        + _rows('two', 2, anchors=8, top_k=4, draw=1),
    }
    result = ablation_tables.anchor_scaling(rows, REFERENCE, ['one', 'two'])
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
    cell = ablation_tables.anchor_scaling(rows, REFERENCE, ['one'])['cells'][0]
    # Of the first five items base has 2, the oracle 5, the method 4.
    assert cell['gap_recovered'][0] == pytest.approx(2 / 3)
    nothing = ablation_tables.anchor_scaling(rows, REFERENCE, [])['cells'][0]
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
    cells = ablation_tables.anchor_scaling(rows, REFERENCE, ['one'])['cells']
    order = [(cell['anchors'], cell['top_k']) for cell in cells]
    assert order == [(4, 2), (4, 16), (4, 'all'), (16, 2), (16, 'all')]


def test_domain_transfer_and_best_pool():
    rows = {
        'one': _rows('one', 6, pool='math', selected=['a', 'b'])
        + _rows('one', 3, pool='code')
        + _rows('one', 8, pool='all'),
        'two': _rows('two', 2, pool='math') + _rows('two', 5, pool='code'),
    }
    domains = {'one': 'math', 'two': 'code'}
    result = ablation_tables.domain_transfer(rows, REFERENCE, ['one', 'two'], domains)
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
    rows['two'] = _rows('two', 5, pool='math') + _rows('two', 5, pool='code')
    tied = ablation_tables.domain_transfer(rows, REFERENCE, ['one', 'two'], domains)
    assert tied['best_pool'] == {'math': 'math', 'code': None}


def test_nothing_run():
    assert ablation_tables.anchor_scaling({}, REFERENCE, []) == {'run': False, 'cells': []}
    empty = ablation_tables.domain_transfer({}, REFERENCE, [], {})
    assert empty == {'run': False, 'cells': [], 'best_pool': {}, 'selected': {}}


def test_bad_rows_are_named():
    with pytest.raises(InputError, match="outcomes of one: a row of ridge has no 'draw'"):
        ablation_tables.anchor_scaling({'one': _rows('one', 1, anchors=4, top_k=1)}, REFERENCE, [])
    with pytest.raises(InputError, match="item 'other' is not among those of experiment 1"):
        rows = {'one': _rows('one', 1, ['other'], pool='math')}
        ablation_tables.domain_transfer(rows, REFERENCE, [], {'one': 'math'})
