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


OWN, OTHER = np.full(4, 0.002), np.full(4, 0.2)
PLAIN = np.full(4, 1.3)
# Two pairs agree where they are sure; two answer otherwise where the source is unsure.
ANCHORS = np.array([0.9 * OWN, 1.1 * OWN, 0.9 * OTHER, 1.1 * OTHER])
PAIRED = np.array([OWN, OWN, 8 * OTHER, 8 * OTHER])


def test_answers_are_trusted_where_pairs_that_are_as_sure_agree():
    trusted = pseudo_labels.trust(OWN, PLAIN, ANCHORS, PAIRED)
    assert trusted.weights.min() > 0.95 and trusted.is_backed
    trusted = pseudo_labels.trust(OTHER, PLAIN, ANCHORS, PAIRED)
    assert trusted.weights.max() == 0.0


def test_a_teacher_is_believed_no_more_than_a_surer_one():
    # So unsure that no anchor is near: by itself it would remove 0.69 of the bare target's loss.
    assert pseudo_labels.trust(2 * OTHER, PLAIN, ANCHORS, PAIRED).weights.max() == 0.0
    # The anchors that disagree are less sure than this one, which still tells nothing of it.
    assert pseudo_labels.trust(0.3 * OTHER, PLAIN, ANCHORS, PAIRED).weights.min() > 0.5


def test_a_teacher_surer_than_any_anchor_is_believed_but_not_backed():
    trusted = pseudo_labels.trust(OWN, PLAIN, ANCHORS[2:], PAIRED[2:])
    assert trusted.weights.min() > 0.95 and not trusted.is_backed
    # Surer than the anchors, and far from sure: that is not enough.
    unsure = pseudo_labels.trust(OTHER, PLAIN, 4 * ANCHORS[2:], PAIRED[2:])
    assert unsure.weights.max() == 0.0


def test_without_anchors_every_answer_is_taken_and_none_backed():
    none = np.zeros((0, 4))
    trusted = pseudo_labels.trust(OTHER, PLAIN, none, none)
    assert trusted.weights.tolist() == [1, 1, 1, 1] and not trusted.is_backed


def test_unfinished_answers_are_not_trusted_and_do_not_count():
    losses = np.array([0.002, np.inf, 0.002, 0.002])
    anchors = np.where(np.eye(4, dtype=bool), np.inf, ANCHORS)
    weights = pseudo_labels.trust(losses, PLAIN, anchors, PAIRED).weights
    assert weights[1] == 0.0 and weights[[0, 2, 3]].min() > 0.95
    assert not pseudo_labels.trust(np.full(4, np.inf), PLAIN, anchors, PAIRED).weights.any()
