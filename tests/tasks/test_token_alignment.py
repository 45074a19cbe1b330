"""Positions that two tokenizers share."""

import pathlib

import numpy as np
import pytest

from lorajax import toy
from lorajax.errors import InputError
from lorajax.tasks import token_alignment
from lorajax.tasks.chat import load_chat_format
from tests import tiny_models

TEXTS = ['one two three four', 'five six', 'seven eight nine ten eleven twelve thirteen']


@pytest.fixture(scope='module')
def chats(tmp_path_factory):
    """Two tokenizers that split text differently."""
    root = tmp_path_factory.mktemp('models')
    tiny_models.write(root / 'qwen', 'qwen2', TEXTS * 20)
    tiny_models.write(root / 'llama', 'llama', ['one one two ten seven'] * 20)
    return [load_chat_format(root / name) for name in ('qwen', 'llama')]


def test_positions_end_at_the_same_character(chats):
    pair = [token_alignment.tokenize(chat, TEXTS[2], 99) for chat in chats]
    left, right = token_alignment.common_positions(*pair)
    assert len(left) == len(right) > 3
    assert len(pair[0].ids) != len(pair[1].ids)  # else the test shows nothing
    assert (pair[0].ends[left] == pair[1].ends[right]).all()
    assert (np.diff(left) > 0).all() and pair[0].ends[left].min() > 0
    assert len(TEXTS[2]) in pair[0].ends[left]


def test_the_last_of_several_tokens_that_end_at_one_character_is_taken():
    left = token_alignment.Tokens(np.arange(4), np.array([0, 1, 1, 3]))
    right = token_alignment.Tokens(np.arange(3), np.array([1, 2, 3]))
    common = token_alignment.common_positions(left, right)
    assert [list(x) for x in common] == [[2, 3], [0, 2]]


def test_texts_are_cut(chats):
    whole, cut = (token_alignment.tokenize(chats[0], TEXTS[2], n) for n in (99, 3))
    assert len(cut.ids) == len(cut.ends) == 3 < len(whole.ids)
    np.testing.assert_array_equal(cut.ids, whole.ids[:3])


def test_shared_positions_stop_at_the_count_and_refuse_texts_without_any(chats):
    tokens, positions = token_alignment.shared_positions(chats, TEXTS, 99, 5)
    assert sum(map(len, positions[0])) == sum(map(len, positions[1])) == 5
    assert len(tokens[0]) == len(positions[0])
    with pytest.raises(InputError, match='end no token at the same character'):
        token_alignment.shared_positions(chats, [''], 99, 5)


def test_toy_models_share_every_position():
    pair = [load_chat_format(pathlib.Path(toy.MODELS[f'toy-{s}'])) for s in ('source', 'target')]
    (tokens, _), (left, right) = token_alignment.shared_positions(
        pair, ['math ? ? md mb = me'], 99, 99
    )
    assert list(left[0]) == list(right[0]) == list(range(len(tokens[0].ids)))
