"""What the projections of two models see and return at the same places of the same text.

The models split text differently, so places are matched by character: a token of one model and a
token of the other correspond if both end at the same character. There each has read the same
prefix.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from lorajax import sharding
from lorajax.errors import InputError
from lorajax.models import Model
from lorajax.models.transformer import Transformer
from lorajax.tasks.batching import bucket
from lorajax.tasks.chat import ChatFormat
from lorajax.types import Params

# Padded tokens in one forward pass. It holds what every projection of every layer sees and returns:
# at 3B size in bfloat16 about 4 MB a token (predicted).
_TOKENS_PER_STEP = 2048


class Tokens(NamedTuple):
    """A text in tokens of one model, int32[T], and where each of them ends, int64[T].

    Special tokens end at character 0.
    """

    ids: np.ndarray
    ends: np.ndarray


class States(NamedTuple):
    """Activations of one model by projection, in the model's dtype.

    inputs: [L, S, in], what each projection sees; outputs: [L, S, out], what it returns.
    """

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def tokenize(chat: ChatFormat, text: str, max_len: int) -> Tokens:
    """Splits a plain text (no chat template) into at most `max_len` tokens."""
    found = chat.tokenizer(text, return_offsets_mapping=True, truncation=False)
    ends = np.array([end for _, end in found['offset_mapping']], np.int64)
    return Tokens(np.asarray(found['input_ids'][:max_len], np.int32), ends[:max_len])


def common_places(left: Tokens, right: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Returns int64[S] and int64[S], the tokens of both that end at the same character.

    Where several tokens end at one character (parts of it in bytes), the last is taken.
    """
    places = [
        {int(end): place for place, end in enumerate(tokens.ends) if end > 0}
        for tokens in (left, right)
    ]
    shared = sorted(places[0].keys() & places[1].keys())
    first, second = (np.array([side[end] for end in shared], np.int64) for side in places)
    return first, second


@functools.partial(jax.jit, static_argnames=('module',))
def _forward(
    module: Transformer,
    params: Params,
    tokens: jax.Array,
    segment_ids: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
) -> dict[str, dict[str, jax.Array]]:
    """Returns what every projection sees and returns at places [S] of a batch [B, T]."""
    _, sown = module.apply({'params': params}, tokens, segment_ids, mutable=['intermediates'])
    layers = sown['intermediates']['layers']
    return {
        name: {kind: values[kind][0][:, rows, columns] for kind in ('inputs', 'outputs')}
        for name, values in layers.items()
    }


def _first(states: jax.Array, count: int) -> np.ndarray:
    """Returns the first places of [L, S, features] on the host."""
    return np.asarray(states)[:, :count]


def collect(
    model: Model,
    texts: Sequence[Tokens],
    places: Sequence[np.ndarray],
    tokens_per_step: int = _TOKENS_PER_STEP,
) -> States:
    """Runs a model over texts and keeps the activations at some places.

    Args:
      model: the base, without an adapter.
      texts: in its tokens.
      places: int64[S_i] for each text.
      tokens_per_step: padded tokens in one forward pass; at least one text is taken.

    Returns:
      The activations at all places, texts in order; S = sum of S_i. On the host: at 3B size
      about 4 MB for each place in bfloat16, inputs and outputs together.
    """
    length = bucket(max(len(text.ids) for text in texts))
    count = max(1, min(tokens_per_step // length, len(texts)))
    most = bucket(count * max(len(where) for where in places))
    parts = []
    for start in range(0, len(texts), count):
        chosen, wanted = texts[start : start + count], places[start : start + count]
        tokens = np.zeros((count, length), np.int32)
        mask = np.zeros((count, length), np.int32)
        for row, text in enumerate(chosen):
            tokens[row, : len(text.ids)] = text.ids
            mask[row, : len(text.ids)] = 1
        rows = np.repeat(np.arange(len(wanted)), [len(where) for where in wanted])
        columns = np.concatenate(wanted)
        # One shape for all batches: what is added is cut off again.
        padding = (0, most - len(rows))
        placed = sharding.sharding(model.mesh, None, None)
        found = _forward(
            model.module, model.params, jax.device_put(tokens, placed),
            jax.device_put(mask, placed), np.pad(rows, padding), np.pad(columns, padding),
        )  # fmt: skip
        keep = functools.partial(_first, count=len(rows))
        parts.append(jax.tree.map(keep, found))
    whole = jax.tree.map(lambda *pieces: np.concatenate(pieces, axis=1), *parts)
    return States(
        {name: values['inputs'] for name, values in whole.items()},
        {name: values['outputs'] for name, values in whole.items()},
    )


def shared_places(
    chats: Sequence[ChatFormat], texts: Sequence[str], max_len: int, count: int
) -> tuple[list[list[Tokens]], list[list[np.ndarray]]]:
    """Finds places that two models have in common.

    Args:
      chats: of source and target.
      texts: read in order until there are enough places.
      max_len: tokens of a text that are read.
      count: places wanted.

    Returns:
      For source and target: texts in tokens, and int64[S_i] places of each; `count` in all, or
      fewer if the texts hold fewer.

    Raises:
      InputError: if the texts have no place in common.
    """
    tokens: list[list[Tokens]] = [[], []]
    places: list[list[np.ndarray]] = [[], []]
    left = count
    for text in texts:
        pair = [tokenize(chat, text, max_len) for chat in chats]
        common = common_places(*pair)
        if not len(common[0]):
            continue
        for side in (0, 1):
            tokens[side].append(pair[side])
            places[side].append(common[side][:left])
        left -= len(places[0][-1])
        if left == 0:
            break
    if left == count:
        raise InputError('the two tokenizers end no token at the same character of the texts')
    return tokens, places
