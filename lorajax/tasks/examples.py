"""Examples on disk, and in tokens that fit a model's length."""

import pathlib
from collections.abc import Iterable, Sequence

from absl import logging

from lorajax import io
from lorajax.errors import ArgumentError
from lorajax.tasks.chat import ChatFormat, Encoded, truncate
from lorajax.tasks.task import Example


def write(path: pathlib.Path, examples: Iterable[Example]) -> None:
    """Writes examples as JSON lines, with their checksum beside them."""
    io.write_jsonl(path, [example.to_json() for example in examples])
    io.write_sum(path)


def read(path: pathlib.Path) -> list[Example]:
    """Reads examples that `write` wrote.

    Raises:
      InputError: if the file is missing or not as it was written.
    """
    io.check_sum(path)
    rows = io.read_numbered_jsonl(path)
    return [Example.from_json(f'{path}:{number}', row) for number, row in rows]


def encode(chat: ChatFormat, examples: Sequence[Example], max_len: int, task: str) -> list[Encoded]:
    """Returns training examples in tokens, without those whose answer does not fit; see `fit`."""
    return fit([chat.encode(example) for example in examples], max_len, task)


def fit(encoded: Sequence[Encoded], max_len: int, label: str) -> list[Encoded]:
    """Cuts examples to `max_len` tokens and leaves out those of which no answer is left.

    Args:
      encoded: training examples.
      max_len: tokens of prompt and answer together.
      label: names the examples in messages.

    Raises:
      ArgumentError: if none is left.
    """
    cut = [truncate(example, max_len) for example in encoded]
    kept = [example for example in cut if example is not None]
    if not kept:
        shortest = min(len(example.prompt) for example in encoded)
        raise ArgumentError(
            'max_len',
            max_len,
            f'no prompt of {label} leaves room for an answer, the shortest has {shortest} tokens',
        )
    if len(kept) < len(encoded):
        dropped = len(encoded) - len(kept)
        logging.warning(
            '%s: %d prompts of %d exceed %d tokens', label, dropped, len(encoded), max_len
        )
    shortened = sum(
        example is not None and len(example.answer) < len(whole.answer)
        for example, whole in zip(cut, encoded, strict=True)
    )
    if shortened:
        logging.warning(
            '%s: %d answers of %d are cut at %d tokens, so their end is not learned',
            label, shortened, len(encoded), max_len,
        )  # fmt: skip
    return kept
