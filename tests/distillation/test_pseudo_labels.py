"""Which answers are learned."""

import numpy as np
import pytest

from lorajax.distillation import pseudo_labels
from lorajax.distillation.teacher import Answer
from lorajax.errors import InputError

PROMPTS = ['p', 'q', 'r', 's']
ANSWERS = [Answer('a', 0.5, 2), Answer('b', 0.1, 2), Answer('', np.inf, 0), Answer('d', 0.2, 2)]


def test_the_surest_answers_are_kept_in_the_order_of_their_prompts():
    kept = pseudo_labels.select(PROMPTS, ANSWERS, 2, 'task')
    assert [(e.prompt, e.answer, e.item) for e in kept] == [
        ('q', 'b', 'task/answered 1'), ('s', 'd', 'task/answered 3'),
    ]  # fmt: skip
    assert [e.reference for e in kept] == ['b', 'd']


def test_answers_without_an_end_are_never_kept():
    assert len(pseudo_labels.select(PROMPTS, ANSWERS, 4, 'task')) == 3
    with pytest.raises(InputError, match='task: the source model with its adapter finished none'):
        pseudo_labels.select(['r'], ANSWERS[2:3], 1, 'task')
