"""Sequences of different lengths become rectangular batches of few different shapes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lorajax.tasks.chat import Encoded


class Batch(NamedTuple):
    """What the loss needs, on the host or on devices; see `models.loss.target_nll`.

    Attributes:
      tokens: int32[B, T], prompt then answer, padded on the right.
      segment_ids: int32[B, T], 1 for real tokens.
      target_index: int32[B, M], where the tokens stand that the loss counts.
      target_mask: float32[B, M], 1 for real targets.
    """

    tokens: Any
    segment_ids: Any
    target_index: Any
    target_mask: Any


def bucket(length: int) -> int:
    """Returns the smallest of 8, 12, 16, 24, 32, 48, 64, ... that holds `length`.

    Every bucket is a shape to compile; steps of a half and a third bound both the number of
    shapes and the padding.
    """
    size = 8
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def shape_of(examples: Sequence[Encoded]) -> tuple[int, int]:
    """Returns (T, M), the most tokens and the most targets that an example has."""
    longest = max((len(e.prompt) + len(e.answer) for e in examples), default=1)
    return longest, max((len(e.targets) for e in examples), default=1)


def make_batch(
    examples: Sequence[Encoded], rows: int, length: int, targets: int, pad_id: int
) -> Batch:
    """Pads examples to `rows` x `length`; missing rows and targets are masked out.

    Args:
      examples: at most `rows`.
      rows: B.
      length: T.
      targets: M.
      pad_id: token that fills.
    """
    tokens = np.full((rows, length), pad_id, np.int32)
    segment_ids = np.zeros((rows, length), np.int32)
    index = np.ones((rows, targets), np.int32)
    mask = np.zeros((rows, targets), np.float32)
    for row, example in enumerate(examples):
        start = len(example.prompt)
        stop = start + len(example.answer)
        tokens[row, :start] = example.prompt
        tokens[row, start:stop] = example.answer
        segment_ids[row, :stop] = 1
        count = len(example.targets)
        index[row, :count] = example.targets
        mask[row, :count] = 1.0
    return Batch(tokens, segment_ids, index, mask)


def pad_left(
    prompts: Sequence[np.ndarray], rows: int, length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pads prompts on the left; a prompt longer than `length` loses its beginning.

    Returns:
      int32[rows, length] tokens and int32[rows, length] mask. Missing rows hold one token, so
      that no row is empty.
    """
    tokens = np.full((rows, length), pad_id, np.int32)
    mask = np.zeros((rows, length), np.int32)
    mask[len(prompts) :, -1] = 1
    for row, prompt in enumerate(prompts):
        kept = prompt[-length:]
        tokens[row, length - len(kept) :] = kept
        mask[row, length - len(kept) :] = 1
    return tokens, mask
