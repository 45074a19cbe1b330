"""Positions that two tokenizers have in common in the same text.

The models split text differently, so positions are matched by character: a token of one model and
a token of the other correspond if both end at the same character. There each has read the same
prefix.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lorajax.errors import InputError
from lorajax.tasks.chat import ChatFormat


class Tokens(NamedTuple):
    """A text in tokens of one model, int32[T], and where each of them ends, int64[T].

    Special tokens end at character 0.
    """

    ids: np.ndarray
    ends: np.ndarray


def tokenize(chat: ChatFormat, text: str, max_len: int) -> Tokens:
    """Splits a plain text (no chat template) into at most `max_len` tokens."""
    encoded = chat.tokenizer(text, return_offsets_mapping=True, truncation=False)
    ends = np.array([end for _, end in encoded['offset_mapping']], np.int64)
    return Tokens(np.asarray(encoded['input_ids'][:max_len], np.int32), ends[:max_len])


def common_positions(left: Tokens, right: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Returns int64[S] and int64[S], the tokens of both that end at the same character.

    Where several tokens end at one character (parts of it in bytes), the last is taken.
    """
    by_end = [
        {int(end): position for position, end in enumerate(tokens.ends) if end > 0}
        for tokens in (left, right)
    ]
    shared = sorted(by_end[0].keys() & by_end[1].keys())
    first, second = (np.array([side[end] for end in shared], np.int64) for side in by_end)
    return first, second


def shared_positions(
    chats: Sequence[ChatFormat], texts: Sequence[str], max_len: int, count: int
) -> tuple[list[list[Tokens]], list[list[np.ndarray]]]:
    """Returns positions that two models have in common, and the texts they stand in.

    Args:
      chats: of source and target.
      texts: read in order until there are enough positions.
      max_len: tokens of a text that are read.
      count: positions wanted.

    Returns:
      For source and target: texts in tokens, and int64[S_i] positions of each; `count` in all, or
      fewer if the texts hold fewer.

    Raises:
      InputError: if the texts have no position in common.
    """
    tokens: list[list[Tokens]] = [[], []]
    positions: list[list[np.ndarray]] = [[], []]
    left = count
    for text in texts:
        pair = [tokenize(chat, text, max_len) for chat in chats]
        common = common_positions(*pair)
        if not len(common[0]):
            continue
        for side in (0, 1):
            tokens[side].append(pair[side])
            positions[side].append(common[side][:left])
        left -= len(positions[0][-1])
        if left == 0:
            break
    if left == count:
        raise InputError('the two tokenizers end no token at the same character of the texts')
    return tokens, positions
