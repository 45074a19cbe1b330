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


def test_equal_answers_compete_with_each_other_and_others_with_all():
    # An easy answer ten times, a hard one ten times, and one that is there once and unlikely.
    easy = [Answer('science', 0.01 + 0.001 * i, 2) for i in range(10)]
    hard = [Answer('code', 0.5 + 0.01 * i, 2) for i in range(10)]
    answers = [*easy, *hard, Answer('sci', 3.0, 2)]
    prompts = [str(i) for i in range(len(answers))]
    kept = pseudo_labels.select(prompts, answers, 10, 'task')
    assert [e.prompt for e in kept] == [str(i) for i in (*range(5), *range(10, 15))]
    # Where no two are equal the surest are kept.
    alone = [answer._replace(text=str(i)) for i, answer in enumerate(answers)]
    kept = pseudo_labels.select(prompts, alone, 10, 'task')
    assert [e.prompt for e in kept] == [str(i) for i in range(10)]
    doubts = pseudo_labels.doubt([*answers, Answer('code', np.inf, 0)])
    assert doubts[-1] == np.inf and doubts[:-1].min() > 0 and doubts[:-1].max() < 1
