"""Examples on disk, and in tokens that fit."""

import logging

import numpy as np
import pytest

from lorajax import toy
from lorajax.errors import ArgumentError, InputError
from lorajax.tasks import examples
from lorajax.tasks.chat import Encoded, load_chat_format
from lorajax.tasks.task import Example

ROWS = [
    Example('a/0', 'p ß', 'a', 'a', ('x', 'y'), {'labels': ['A']}, 'q'),
    Example('a/1', 'line\nline', '18', '18'),
]


def encoded(prompt: int, answer: int) -> Encoded:
    return Encoded(np.arange(prompt, dtype=np.int32), np.arange(answer, dtype=np.int32))


def test_what_is_written_is_read(tmp_path):
    examples.write(tmp_path / 'rows.jsonl', ROWS)
    assert examples.read(tmp_path / 'rows.jsonl') == ROWS


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / 'rows.jsonl'
    examples.write(path, ROWS)
    path.write_text(path.read_text().replace('18', '19'))
    with pytest.raises(InputError, match=r'rows\.jsonl'):
        examples.read(path)


def test_answers_are_cut_and_prompts_that_fill_all_are_left_out(caplog):
    with caplog.at_level(logging.WARNING):
        kept = examples.fit([encoded(4, 2), encoded(4, 9), encoded(8, 2)], 8, 'rows')
    assert [(len(e.prompt), len(e.answer)) for e in kept] == [(4, 2), (4, 4)]
    assert 'rows: 1 prompts of 3 exceed 8 tokens' in caplog.text
    assert 'rows: 1 answers of 3 are cut at 8 tokens' in caplog.text


def test_no_room_for_any_answer_is_refused():
    with pytest.raises(ArgumentError, match=r'max_len 4: no prompt .* has 5 tokens'):
        examples.fit([encoded(6, 2), encoded(5, 2)], 4, 'rows')


def test_encode_is_the_chat_format_cut():
    chat = load_chat_format(toy.MODELS['toy-source'])
    example = Example('i', 'math ? ? ma mb mc md', 'ma mb mc md', 'ma mb mc md')
    whole = chat.encode(example)
    (found,) = examples.encode(chat, [example], len(whole.prompt) + 2, 't')
    np.testing.assert_array_equal(found.prompt, whole.prompt)
    np.testing.assert_array_equal(found.answer, whole.answer[:2])
