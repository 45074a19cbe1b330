"""Answers become rows that are learned, and others that are kept out."""

import numpy as np
import pytest

from lorajax.distillation import material
from lorajax.distillation.material import Agreement, Row
from lorajax.distillation.teacher import Answer
from lorajax.distillation.trust import Signs
from lorajax.errors import ArgumentError, InputError
from lorajax.tasks.chat import Encoded
from tests.distillation.toy_teacher import known_rows, load, random_adapter

NONE = np.zeros((0, 4))
NOTHING = Agreement(Signs(NONE, NONE), NONE)
SILENT = np.zeros(4)  # responses


@pytest.fixture(scope='module')
def target():
    return load('target')


def rows(count):
    return [Row(Encoded(np.zeros(1), np.zeros(1)), floor=float(i)) for i in range(count)]


def test_every_fourth_of_enough_rows_is_kept_out():
    parts = material.split(rows(9), is_backed=False)
    assert [row.floor for row in parts.check] == [3.0, 7.0] and len(parts.learn) == 7
    assert not parts.is_backed
    assert material.split(rows(7)).check == []


def test_losses_do_not_depend_on_what_is_scored_together(target):
    model, chat = target
    encoded = [chat.encode(row) for row in known_rows(5)]
    together, apart = (material.answer_losses(model, None, encoded, n, chat.pad_id) for n in (5, 4))
    np.testing.assert_allclose(together, apart, atol=1e-5)  # float32 logits of about 20
    assert material.answer_losses(model, None, [], 4, chat.pad_id).shape == (0,)


def test_pairs_are_asked_about_answers_that_are_there(target):
    model, chat = target
    known = known_rows(2)
    said = {'a': [Answer(row.answer, 0.1, 5) for row in known]}
    adapters = {name: random_adapter(model, 1, size=0.1) for name in ('a', 'b')}
    heard = {'a': np.array([0.5, 0.25]), 'b': SILENT}
    prompts = [row.prompt for row in known]
    agreed = material.agreement(model, chat, prompts, said, heard, adapters, 2)
    assert agreed.own.losses.tolist() == [[0.1, 0.1]]
    assert agreed.own.responses.tolist() == [[0.5, 0.25]]
    expected = material.answer_losses(
        model, adapters['a'], [chat.encode(row) for row in known], 2, chat.pad_id
    )
    np.testing.assert_allclose(agreed.pair, [expected], atol=1e-5)
    none = material.agreement(model, chat, ['p'], {}, {}, adapters, 2)
    assert none.own.losses.shape == none.pair.shape == (0, 1)


def test_answers_are_learned_with_their_trust_and_floor(target):
    model, chat = target
    known = known_rows(4)
    # The first was cut off; the teacher counts 10 tokens where the target counts 5.
    said = [Answer(row.answer, 0.1 if i else np.inf, 10) for i, row in enumerate(known)]
    prompts = [row.prompt for row in known]
    found = material.trusted(model, chat, 'one', prompts, said, SILENT, NOTHING, 4, 32)
    assert [row.trust for row in found.learn] == [1.0] * 3 and not found.is_backed
    assert [row.floor for row in found.learn] == pytest.approx([0.2] * 3)
    # A pair that is as sure of its answers and disagrees: nothing is worth learning.
    against = Agreement(Signs(np.full((1, 4), 0.1), np.zeros((1, 4))), np.full((1, 4), 5.0))
    assert material.trusted(model, chat, 'one', prompts, said, SILENT, against, 4, 32) is None


def test_what_cannot_be_learned_is_said(target):
    model, chat = target
    with pytest.raises(InputError, match='one: the source model with its adapter finished none'):
        material.trusted(model, chat, 'one', ['p'], [Answer('', np.inf, 0)], SILENT, NOTHING, 4, 32)
    with pytest.raises(ArgumentError, match='max_len 3: no answer fits with its prompt'):
        material.trusted(
            model, chat, 'one', ['math ma'], [Answer('ma', 0.1, 2)], SILENT, NOTHING, 4, 3
        )
