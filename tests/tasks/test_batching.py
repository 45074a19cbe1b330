"""Shapes and masks of batches."""

import numpy as np

from lorajax.tasks.batching import bucket, make_batch, pad_left, shape_of
from lorajax.tasks.chat import Encoded


def ids(*values):
    return np.array(values, np.int32)


def test_buckets_hold_their_length_and_are_few():
    sizes = [bucket(n) for n in range(1, 2049)]
    assert all(size >= n for n, size in enumerate(sizes, 1))
    assert all(size <= 1.5 * n for n, size in enumerate(sizes, 1) if n > 8)
    assert len(set(sizes)) <= 18


def test_targets_are_exactly_the_answer():
    examples = [
        Encoded(ids(5, 6, 7), ids(8, 9)),
        Encoded(
            ids(
                4,
            ),
            ids(3, 2, 1),
        ),
    ]
    assert shape_of(examples) == (5, 3)
    batch = make_batch(examples, rows=3, length=6, targets=4, pad_id=0)
    np.testing.assert_array_equal(batch.tokens[0], [5, 6, 7, 8, 9, 0])
    np.testing.assert_array_equal(batch.segment_ids.sum(-1), [5, 4, 0])
    np.testing.assert_array_equal(batch.target_mask.sum(-1), [2, 3, 0])
    for row, example in enumerate(examples):
        chosen = batch.target_index[row][batch.target_mask[row] > 0]
        np.testing.assert_array_equal(batch.tokens[row, chosen], example.answer)
    assert (batch.target_index >= 1).all()  # the position before a target always exists


def test_long_prompts_lose_their_beginning_and_no_row_is_empty():
    tokens, mask = pad_left([ids(1, 2, 3, 4), ids(9)], rows=3, length=3, pad_id=0)
    np.testing.assert_array_equal(tokens, [[2, 3, 4], [0, 0, 9], [0, 0, 0]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [0, 0, 1], [0, 0, 1]])
