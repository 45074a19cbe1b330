"""Short texts out of the rows of data sets: what the tasks ask about.

Nothing of the data is kept here; all functions work on rows that they are given.
"""

import functools
import hashlib
import re
from collections.abc import Hashable, Iterator
from typing import NamedTuple, cast

from lorajax.tasks.task import RowSource

# Data set, split, field of the question, kind of source.
QUESTIONS = (
    ('gsm8k', 'train', 'question', 'story'),
    ('multiarith', 'train', 'question', 'story'),
    ('mmlu', 'test', 'question', 'exam'),
    ('mmlu', 'validation', 'question', 'exam'),
    ('arc_easy', 'train', 'question', 'science'),
    ('arc_easy', 'test', 'question', 'science'),
    ('openbookqa', 'train', 'question_stem', 'science'),
    ('mbpp', 'train', 'text', 'code'),
    ('mbpp', 'test', 'text', 'code'),
    ('mbpp', 'validation', 'text', 'code'),
)
FEWEST, MOST = 5, 8  # words of a text
_HELD_SHARE = 5  # one row in so many is for evaluation alone
_SENTENCE = re.compile(r'(?<=[.?!:;])\s+|\n|,\s')
_WORD = re.compile(r"[A-Za-z0-9$][A-Za-z0-9'$%-]*")


class Item(NamedTuple):
    """A short text of a row.

    Attributes:
      text: a few words, one blank between two of them.
      source: kind of the data set: story, exam, science or code.
      is_held: whether the row is for evaluation alone.
      subject: of an exam's question; else empty.
    """

    text: str
    source: str
    is_held: bool
    subject: str = ''


def is_held(question: str) -> bool:
    """Whether a row is for evaluation alone, so that neither bases nor adapters train on it.

    The question decides, up to case, blanks and punctuation, so that copies in other data sets
    are on the same side.
    """
    letters = re.sub(r'[^a-z0-9]', '', question.lower())
    return hashlib.sha256(letters.encode()).digest()[0] % _HELD_SHARE == 0


def sentences(text: str) -> Iterator[str]:
    """Yields the plain parts of sentences, those of `FEWEST` words or more cut to `MOST`."""
    for part in _SENTENCE.split(text):
        words = part.strip().rstrip('.?!,:;').split()[:MOST]
        if len(words) >= FEWEST and all(_WORD.fullmatch(word) for word in words):
            yield ' '.join(words)


def of(rows: RowSource) -> tuple[Item, ...]:
    """Returns two sentences at most of every question, each text once.

    Args:
      rows: with the data sets of `QUESTIONS`; hashable, as the result is kept with it.
    """
    return _of(cast(Hashable, rows))


@functools.lru_cache(maxsize=2)
def _of(source: Hashable) -> tuple[Item, ...]:
    """Reads the items once for all tasks."""
    rows = cast(RowSource, source)
    found: dict[str, Item] = {}
    for dataset, split, field, source in QUESTIONS:
        for row in rows.rows(dataset, split):
            question, subject = row[field], row.get('subject', '')
            for text, _ in zip(sentences(question), range(2), strict=False):
                # A part that two questions share is held if one of them is.
                held = is_held(question) or (text in found and found[text].is_held)
                found[text] = Item(text, source, held, subject)
    return tuple(found.values())
