"""Rows of outcomes: what they may hold, and the messages about files that are wrong."""

import json

import pytest

from lorajax.errors import InputError
from lorajax.evaluation import outcomes
from lorajax.io import write_jsonl
from tests.fake_run import make_fake_run

ROW = {'task': 't', 'method': 'base', 'item': 'i', 'correct': True, 'nll': 0.5}


@pytest.fixture
def rows():
    """The rows of one task of a small run, to be changed."""
    return make_fake_run(n=12, experiments=False).outcomes['gsm_hard']


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ('plain \u2028 \x00 \U0001f600', 'plain \u2028 \x00 \U0001f600'),
        ('\ud800 alone, \udc00 too', '\ufffd alone, \ufffd too'),
        ({'\udfff': ['\ud800', ('a', 1)]}, {'\ufffd': ['\ufffd', ['a', 1]]}),
        ([float('nan'), float('inf'), -float('inf'), 1.5], [None, None, None, 1.5]),
        ({'a': True, 'b': None, 'c': 10**400}, {'a': True, 'b': None, 'c': 10**400}),
    ],
)
def test_anything_becomes_storable(value, expected):
    stored = outcomes.storable(value)
    assert stored == expected
    json.dumps(stored, ensure_ascii=False, allow_nan=False).encode()


def test_rows_come_back_as_they_were_written(tmp_path, rows):
    outcomes.write(tmp_path / 'a.jsonl', rows)
    assert outcomes.read(tmp_path / 'a.jsonl', 'gsm_hard') == rows
    table = outcomes.read_table(tmp_path / 'a.jsonl', 'gsm_hard')
    assert [row for by_item in table.values() for row in by_item.values()] == rows


def test_a_flipped_verdict_is_noticed(tmp_path, rows):
    path = tmp_path / 'a.jsonl'
    outcomes.write(path, rows)
    text = path.read_text()
    path.write_text(text.replace('"correct": false', '"correct": true ', 1))
    with pytest.raises(InputError, match=r'a\.jsonl: corrupt: its SHA-256'):
        outcomes.read(path, 'gsm_hard')


def test_a_rewritten_file_has_its_own_sum(tmp_path, rows):
    path = tmp_path / 'a.jsonl'
    outcomes.write(path, rows)
    outcomes.write(path, rows[:3])
    assert outcomes.read(path, 'gsm_hard') == rows[:3]


def _drop(rows):
    del rows[-1]


def _repeat(rows):
    rows.append(rows[0])


def _no_oracle(rows):
    rows[:] = [row for row in rows if row['method'] != 'oracle']


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (_drop, r"oracle and base answer different items \(11 and 12; 'gsm_hard/11'"),
        (_repeat, r"row 109 is a second answer of base to 'gsm_hard/0'"),
        (_no_oracle, r'no rows of oracle, expected base and oracle'),
        (lambda rows: rows[3].pop('method'), r"row 4 has no 'method'"),
        (lambda rows: rows[3].update(task='other'), r"row 4 is of task 'other'"),
        (lambda rows: rows[3].update(correct='yes'), r"row 4 has correct = 'yes'"),
        (lambda rows: rows[3].update(correct=[1]), r'row 4 has correct = \[1\]'),
        (lambda rows: rows[3].update(item=['a']), r"row 4 has item = \['a'\], expected a name"),
        (lambda rows: rows[3].update(nll='1'), r"row 4 has nll = '1', expected a number or null"),
        (lambda rows: rows[3].update(details=[]), r'row 4 has details = \[\], expected a JSON'),
        (lambda rows: rows.insert(0, 7), r'row 1 is not a JSON object'),
    ],
)
def test_damaged_outcomes_name_file_and_row(tmp_path, rows, damage, message):
    path = tmp_path / 'a.jsonl'
    damage(rows)
    write_jsonl(path, rows)
    with pytest.raises(InputError, match=message) as caught:
        outcomes.read_table(path, 'gsm_hard')
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'none.jsonl: no such file'):
        outcomes.read(tmp_path / 'none.jsonl', 't')
