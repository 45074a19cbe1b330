"""Stories told by the models themselves, as rows of a data set."""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.models.model import Model
from lorajax.models.sampling import Sampling
from lorajax.stories.tasks import DATASET
from lorajax.tasks.chat import ChatFormat

_AT_ONCE = 128  # stories
_TEST_SHARE = 0.3


def tell(
    model: Model, chat_format: ChatFormat, count: int, new_tokens: int, key: jax.Array
) -> list[str]:
    """Samples stories from the beginning of text on.

    Args:
      model: that tells them.
      chat_format: of the model; its tokenizer names the first token.
      count: of stories.
      new_tokens: most tokens of each.
      key: PRNG key.

    Returns:
      Their texts, white space of any kind as one blank.

    Raises:
      InputError: if the tokenizer has no token for the beginning of text.
    """
    start = chat_format.tokenizer.bos_token_id
    if start is None:
        raise InputError('the tokenizer has no token for the beginning of text to sample from')
    told: list[str] = []
    tokens = np.full((_AT_ONCE, 1), start, np.int32)
    while len(told) < count:
        sampled = model.generate(
            tokens,
            max_new_tokens=new_tokens,
            eos_ids=(*chat_format.stop_ids, start),
            pad_id=chat_format.stop_ids[0],
            sampler=Sampling(temperature=0.9, top_p=0.95),
            key=jax.random.fold_in(key, len(told)),
        )
        told += [' '.join(chat_format.decode(row).split()) for row in np.asarray(sampled)]
    return told[:count]


def can_write(chat_format: ChatFormat, text: str) -> bool:
    """Whether a tokenizer gives a text back as it was."""
    ids = chat_format.tokenizer(text, add_special_tokens=False)['input_ids']
    return chat_format.tokenizer.decode(ids, skip_special_tokens=True).strip() == text.strip()


def write(directory: pathlib.Path, stories: Sequence[str]) -> None:
    """Writes the data set below a data directory, whole or not at all; a part of it is the test."""
    rows = [{'story': story} for story in dict.fromkeys(stories)]
    cut = round(len(rows) * _TEST_SHARE)
    with io.atomic_directory(directory / DATASET.name) as root:
        io.write_jsonl(root / 'test.jsonl', rows[:cut])
        io.write_jsonl(root / 'train.jsonl', rows[cut:])
