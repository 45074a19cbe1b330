"""Answers are trusted where pairs of adapters that are alike agree."""

import numpy as np

from lorajax.distillation.trust import Signs, trust

# Two anchors are of the prompts' kind: sure, responsive, and their pairs agree. Two are not.
LOSSES = np.array([0.002, 0.003, 0.2, 0.3])[:, None] * np.ones(8)
RESPONSES = np.array([0.5, 0.4, -0.4, -0.5])[:, None] * np.ones(8)
PAIRED = np.array([0.002, 0.003, 1.5, 1.6])[:, None] * np.ones(8)
ANCHORS = Signs(LOSSES, RESPONSES)
PLAIN = np.full(8, 1.3)
OWN, OTHER = Signs(LOSSES[0], RESPONSES[0]), Signs(LOSSES[2], RESPONSES[2])


def test_answers_are_trusted_where_pairs_that_are_alike_agree():
    trusted = trust(OWN, PLAIN, ANCHORS, PAIRED)
    assert trusted.weights.min() > 0.95 and trusted.is_backed
    assert trust(OTHER, PLAIN, ANCHORS, PAIRED).weights.max() == 0.0


def test_the_response_tells_kinds_apart_where_certainty_does_not():
    sure_of_all = Signs(np.full((4, 8), 0.003), RESPONSES)
    own, other = (Signs(np.full(8, 0.003), RESPONSES[i]) for i in (0, 2))
    assert trust(own, PLAIN, sure_of_all, PAIRED).weights.min() > 0.95
    assert trust(other, PLAIN, sure_of_all, PAIRED).weights.max() == 0.0


def test_a_mixture_is_sorted():
    kinds = np.arange(8) % 2  # every other prompt is of the second pair's kind
    swapped = Signs(
        np.where(kinds, LOSSES[::-1], LOSSES), np.where(kinds, RESPONSES[::-1], RESPONSES)
    )
    paired = np.where(kinds, PAIRED[::-1], PAIRED)
    teacher = Signs(swapped.losses[0], swapped.responses[0])
    weights = trust(teacher, PLAIN, swapped, paired).weights
    assert (weights > 0).tolist() == (kinds == 0).tolist() and weights[::2].min() > 0.9
    # One of eight is taken for chance.
    few = Signs(np.where(np.arange(8) == 0, LOSSES[0], 0.25), np.full(8, -0.45))
    assert trust(few, PLAIN, ANCHORS, PAIRED).weights.max() == 0.0


def test_an_answer_is_believed_no_more_than_one_of_a_higher_score():
    # By itself it would remove 0.69 of the bare target's loss, and no anchor is near.
    far = Signs(np.full(8, 0.4), np.full(8, -3.0))
    assert trust(far, PLAIN, ANCHORS, PAIRED).weights.max() == 0.0


def test_a_teacher_beyond_any_anchor_is_believed_if_it_is_sure_but_not_backed():
    unlike = Signs(LOSSES[2:], RESPONSES[2:])
    trusted = trust(OWN, PLAIN, unlike, PAIRED[2:])
    assert trusted.weights.min() > 0.95 and not trusted.is_backed
    unsure = Signs(np.full(8, 0.2), np.full(8, 3.0))
    assert trust(unsure, PLAIN, unlike, PAIRED[2:]).weights.max() == 0.0


def test_answers_far_from_all_others_leave_nothing_undefined():
    # A third of its prompts it hardly responds to: knots lie where no answer is near.
    torn = Signs(LOSSES[0], np.where(np.arange(8) < 3, -60.0, 0.5))
    with np.errstate(divide='raise', invalid='raise'):
        weights = trust(torn, PLAIN, ANCHORS, PAIRED).weights
    assert weights[:3].max() == 0.0 and weights[3:].min() > 0.95


def test_responses_that_tell_nothing_of_the_anchors_are_not_heard():
    # Whether a pair agrees goes with certainty; who responds is turned around.
    deaf = Signs(LOSSES, RESPONSES[[3, 1, 2, 0]])
    sure = Signs(LOSSES[0], RESPONSES[3])
    assert trust(sure, PLAIN, deaf, PAIRED).weights.min() > 0.95
    assert trust(sure, PLAIN, ANCHORS, PAIRED).weights.max() == 0.0
    # Then all answers are trusted alike: one that the teacher is unsure of, with the others.
    mixed = Signs(np.where(np.arange(8) == 0, 0.02, LOSSES[0]), RESPONSES[3])
    assert np.ptp(trust(mixed, PLAIN, deaf, PAIRED).weights) == 0.0


def test_without_anchors_every_answer_is_taken_and_none_backed():
    none = np.zeros((0, 8))
    trusted = trust(OTHER, PLAIN, Signs(none, none), none)
    assert trusted.weights.tolist() == [1.0] * 8 and not trusted.is_backed


def test_unfinished_answers_are_not_trusted_and_do_not_count():
    cut = np.arange(8) == 1
    teacher = Signs(np.where(cut, np.inf, LOSSES[0]), RESPONSES[0])
    anchors = Signs(np.where(np.arange(8) == np.arange(4)[:, None], np.inf, LOSSES), RESPONSES)
    weights = trust(teacher, PLAIN, anchors, PAIRED).weights
    assert weights[1] == 0.0 and weights[~cut].min() > 0.95
    assert not trust(Signs(np.full(8, np.inf), RESPONSES[0]), PLAIN, anchors, PAIRED).weights.any()
