"""Which answers and which tokens are the adapter's doing."""

import numpy as np
import pytest

from benchmarks.peers import selection
from lorajax.distillation import material
from tests.distillation.toy_teacher import known_rows, load, random_adapter


def test_best_rows_come_in_their_order_and_unfinished_ones_never():
    scores = np.array([0.1, -np.inf, 3.0, np.nan, 0.2])
    assert selection.best(scores, 2) == [2, 4]
    assert selection.best(scores, 9) == [0, 2, 4]


def test_losses_of_tokens_have_the_means_of_answers():
    model, chat = load('target')
    rows = [chat.encode(row) for row in known_rows(3)]
    adapter = random_adapter(model, 1)
    known = selection.token_losses(model, adapter, rows, 2, chat.pad_id)
    assert [len(losses) for losses in known] == [len(row.answer) for row in rows]
    means = material.answer_losses(model, adapter, rows, 2, chat.pad_id)
    np.testing.assert_allclose([x.mean() for x in known], means, atol=1e-5)  # float32 logits
    assert selection.excess(known, [x + 0.5 for x in known]) == pytest.approx([0.5] * 3)


def test_scores_are_carried_over_by_characters():
    # 'ab' 'cd' '' to 'a' 'bc' 'd' '': the middle one covers one character of each
    carried = selection.carry(
        np.array([1.0, 3.0, 9.0]), np.array([2, 4, 4]), np.array([1, 3, 4, 4])
    )
    assert carried.tolist() == [1.0, 2.0, 3.0, 9.0]


def test_tokens_of_the_highest_scores_are_learned_and_the_first():
    assert selection.token_targets(np.array([0.0, 5.0, 1.0, 2.0]), 0.5).tolist() == [
        True, True, False, True,
    ]  # fmt: skip


def test_prompts_like_the_tasks_own_are_told_from_others():
    rng = np.random.default_rng(0)
    own, pool = rng.normal(size=(30, 5)), rng.normal(size=(40, 5))
    own[:, 0] += 6.0
    pool[:10, 0] += 6.0
    assert selection.best(selection.likeness(own, pool), 10) == list(range(10))
