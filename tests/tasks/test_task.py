"""Examples survive being written."""

import json

import pytest

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
    assert Example.from_json(row) == example


def test_rows_are_plain_and_examples_frozen():
    example = Example('i', 'p', 'a', 'r', ('x',))
    assert example.to_json() == {
        'item': 'i', 'prompt': 'p', 'answer': 'a', 'reference': 'r', 'problem_ids': ['x'],
        'meta': {}, 'question': '',
    }  # fmt: skip
    with pytest.raises(AttributeError):
        example.item = 'j'


def test_a_row_with_other_fields_is_refused():
    with pytest.raises(TypeError):
        Example.from_json({**Example('i', 'p', 'a', 'r').to_json(), 'more': 1})
