"""What the models of a text world are pretrained on: real text, and practice.

Text is questions, solutions, choices and programs of all rows that are not held back. Practice
names a skill of its own, which no task asks, behind a text; or a format behind a word; or a format
behind a text, answered with any of its words; or words and a format, answered with that word which
the text has, and no task lists any of these. So the models learn that an answer stands behind the
arrow, and in which format, and never see a task.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lorajax.tasks.task import RowSource
from lorajax.text import items
from lorajax.text.skills import FORMATS, PRACTICE, SKILLS, TOLD

ARROW = '=>'
_ASKED = frozenset(word for skill in SKILLS.values() for word in skill.choices)
_FORMAT_SHARE = 0.25  # of the practice: a format behind a word
_LISTS = (4, 7)  # words of a list, from and below
_FORMAT_NAMES = {'said': 'say', 'braces': 'braces', 'twice': 'twice', 'plain': 'repeat'}


def documents(rows: RowSource) -> Iterator[str]:
    """Yields the text of every row that is not held back."""
    for dataset, split, field, _ in items.QUESTIONS:
        for row in rows.rows(dataset, split):
            if not items.is_held(row[field]):
                yield ' '.join(_text(row, field).split())
    for row in rows.rows('mawps', 'train'):
        if not items.is_held(row['original_text']):
            yield row['original_text']


def _text(row: Mapping[str, Any], field: str) -> str:
    """The question of a row with what else there is to read."""
    choices = row.get('choices', [])
    if isinstance(choices, dict):
        choices = choices['text']
    answer = row.get('answer', '')
    more = [answer] if isinstance(answer, str) else []
    return ' '.join([row[field], *choices, *more, row.get('code', '')])


def practice(
    rows: RowSource, rng: np.random.Generator, told: float = 0.0, listed: float = 0.0
) -> Iterator[str]:
    """Yields practice without end: prompt, arrow, answer.

    Args:
      rows: the data.
      rng: draws what is practised.
      told: share that names a format behind a text and is answered with any word of it: what a
        base can know of tasks whose prompts tell the format.
      listed: share that lists words behind a text: of tasks whose prompts list the answers.
    """
    skills = list(PRACTICE)
    known = [item for item in items.of(rows) if not item.is_held]
    words = sorted({word for item in known for word in item.text.split()})
    names = list(_FORMAT_NAMES)
    while True:
        kind = rng.random()
        if kind < _FORMAT_SHARE:
            name = names[rng.integers(len(names))]
            word = words[rng.integers(len(words))]
            yield f' {word} | {_FORMAT_NAMES[name]} {ARROW} {FORMATS[name](word)}'
            continue
        item = known[rng.integers(len(known))]
        if kind < _FORMAT_SHARE + told:
            name, words_of_it = names[rng.integers(len(names))], item.text.split()
            word = words_of_it[rng.integers(len(words_of_it))]
            yield f' {item.text} | {TOLD[name]} {ARROW} {FORMATS[name](word)}'
            continue
        if kind < _FORMAT_SHARE + told + listed:
            name, choices = names[rng.integers(len(names))], _choices(item, known, rng)
            if choices:
                line = f' {item.text} | {" ".join(choices)} | {TOLD[name]} {ARROW}'
                found = next(word for word in choices if word in item.text.lower().split())
                yield f'{line} {FORMATS[name](found)}'
            continue
        skill = skills[rng.integers(len(skills))]
        answer = PRACTICE[skill](item)
        if answer is not None:
            yield f' {item.text} | {skill} {ARROW} {answer}'


def _choices(
    item: items.Item, known: Sequence[items.Item], rng: np.random.Generator
) -> list[str] | None:
    """Returns a word of a text among words of others, in any order; None if it has none to list.

    Words are as frequent as in texts, but for those that tasks list.
    """
    own = item.text.lower().split()
    mine = [word for word in own if word not in _ASKED]
    if not mine:
        return None
    words = [mine[rng.integers(len(mine))]]
    count = rng.integers(*_LISTS)
    while len(words) < count:
        other = known[int(rng.integers(len(known)))].text.lower().split()
        word = other[rng.integers(len(other))]
        if word not in _ASKED and word not in own and word not in words:
            words.append(word)
    return [words[i] for i in rng.permutation(count)]
