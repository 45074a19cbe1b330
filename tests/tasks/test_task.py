"""Examples survive being written."""

import json

import pytest

from lorajax.errors import InputError
from lorajax.tasks.task import Example


@pytest.mark.parametrize(
    'example',
    [
        Example('i', 'p', 'a', 'r'),
        Example('gsm8k/test/1', 'p ß', 'a', '18', ('text/1', 'x'), {'labels': ['A', 'B']}, 'q'),
    ],
)
def test_json_and_back(example):
    row = json.loads(json.dumps(example.to_json()))
    assert Example.from_json('x', row) == example


def test_rows_are_plain_and_examples_frozen():
    example = Example('i', 'p', 'a', 'r', ('x',))
    assert example.to_json() == {
        'item': 'i', 'prompt': 'p', 'answer': 'a', 'reference': 'r', 'problem_ids': ['x'],
        'meta': {}, 'question': '',
    }  # fmt: skip
    with pytest.raises(AttributeError):
        example.item = 'j'


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ({'more': 1}, "has a field 'more', expected no such field"),
        ({'prompt': None}, 'prompt is null, expected a text'),
        (
            {'problem_ids': 'text/1'},
            "problem_ids is 'text/1', expected a list, each element a text",
        ),
        ({'meta': []}, 'meta is [], expected an object'),
    ],
)
def test_a_row_with_other_fields_is_refused(change, problem):
    with pytest.raises(InputError) as caught:
        Example.from_json('x.jsonl:3', {**Example('i', 'p', 'a', 'r').to_json(), **change})
    assert str(caught.value) == f'x.jsonl:3: {problem}'


@pytest.mark.parametrize('row', [None, [], 'text', {}])
def test_what_is_no_row_is_refused(row):
    with pytest.raises(InputError, match=r'^x\.jsonl:1: '):
        Example.from_json('x.jsonl:1', row)
