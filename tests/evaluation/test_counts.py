"""Counts and the answers behind them: taken apart, or refused by name."""

import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.evaluation.counts import check_answers, check_counts

ROW = {'n': 3, 'base': 1, 'x': 0, 'oracle': 3}


def test_counts_are_taken_apart():
    row = {name: np.int64(value) for name, value in ROW.items()}
    assert check_counts('t', row) == (3, {'base': 1, 'x': 0, 'oracle': 3})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'x': -1}, r'counts of t: x = -1, expected 0 to n = 3'),
        ({'x': 4}, r'counts of t: x = 4, expected 0 to n = 3'),
        ({'x': 1.5}, r'counts of t: x = 1.5, expected a whole number'),
        ({'x': '2'}, r"counts of t: x = '2', expected a whole number"),
        ({'n': -1}, r'counts of t: n = -1, expected 0 or more'),
    ],
)
def test_impossible_counts_are_named(change, message):
    with pytest.raises(InputError, match=message):
        check_counts('t', ROW | change)


@pytest.mark.parametrize('name', ['n', 'base', 'oracle'])
def test_required_counts(name):
    with pytest.raises(InputError, match=f"counts of t: no '{name}', expected n, base and oracle"):
        check_counts('t', {k: v for k, v in ROW.items() if k != name})


def test_answers_become_columns_of_zeros_and_ones():
    answers = check_answers('t', {'t': {'a': [True, False], 'b': [1, 1]}}, {'a': 1, 'b': 2}, 2)
    assert answers['a'].dtype == np.float64
    assert {m: v.tolist() for m, v in answers.items()} == {'a': [1.0, 0.0], 'b': [1.0, 1.0]}


@pytest.mark.parametrize(
    ('outcomes', 'message'),
    [
        ({}, 'outcomes of t: no answers of a, only a count'),
        ({'t': {'b': [1]}}, 'outcomes of t: no answers of a, only a count'),
        ({'t': {'a': [1, 1]}}, 'outcomes of t: a has 2 correct of 2, expected 1 of 2'),
        ({'t': {'a': [1]}}, 'outcomes of t: a has 1 correct of 1, expected 1 of 2'),
    ],
)
def test_answers_that_disagree_with_counts_are_named(outcomes, message):
    with pytest.raises(InputError, match=message):
        check_answers('t', outcomes, {'a': 1}, 2)
