"""What is asked of a short text, and how the answer is written: skills and formats.

A skill maps an item to a word, or to None where it cannot be asked; a format writes that down. A
task is one of each. `PRACTICE` is what pretraining practises by name: no task is among it, as
tasks choose from a few words, and practice says a word that stands at a place.
"""

import dataclasses
import re
from collections.abc import Callable

from lorajax.text.items import Item

Answer = Callable[[Item], str | None]

_AREAS = {
    'law': ('law', 'jurisprudence'),
    'medicine': ('medicine', 'anatomy', 'clinical', 'nutrition', 'virology', 'aging'),
    'history': ('history', 'prehistory'),
    'numbers': ('mathematics', 'algebra', 'statistics', 'logic'),
    'money': ('econometrics', 'economics', 'macroeconomics', 'microeconomics', 'accounting',
              'marketing', 'management', 'business'),
    'mind': ('psychology', 'philosophy', 'moral', 'religions', 'sociology'),
    'nature': ('biology', 'chemistry', 'physics', 'astronomy', 'genetics'),
    'machines': ('computer', 'machine', 'electrical', 'security'),
}  # fmt: skip
_PERSONS = ('he', 'she', 'they', 'it')
_COUNTS = {5: 'five', 6: 'six', 7: 'seven', 8: 'eight'}  # as many words as texts have


@dataclasses.dataclass(frozen=True)
class Skill:
    """One thing to ask.

    Attributes:
      name: of the skill.
      kind: 'word' (which of a few words stands there), 'count' or 'class'.
      answer: maps an item to one of `choices`, or None.
      choices: the few answers.
    """

    name: str
    kind: str
    answer: Answer
    choices: tuple[str, ...]


def _which(name: str, words: str) -> Skill:
    """Which of a few words stands there; asked of texts that have one of them once."""
    known = tuple(words.split())

    def answer(item: Item) -> str | None:
        found = [word for word in item.text.lower().split() if word in known]
        return found[0] if len(found) == 1 else None

    return Skill(name, 'word', answer, known)


def _pronoun(item: Item) -> str | None:
    """Who is spoken of by a pronoun."""
    words = set(item.text.lower().split())
    found = [who for who in _PERSONS if who in words]
    return found[0] if len(found) == 1 else None if found else 'nobody'


def _area(item: Item) -> str | None:
    """The field of knowledge of an exam's question."""
    parts = set(item.subject.split('_'))
    return next((area for area, names in _AREAS.items() if parts.intersection(names)), None)


SKILLS: dict[str, Skill] = {
    skill.name: skill
    for skill in (
        _which('being', 'is are was be were'),
        _which('having', 'has have had'),
        _which('article', 'the a an'),
        _which('relation', 'in on at for with from'),
        _which('time', 'day years hours minutes year hour'),
        _which('modal', 'can will would may should could'),
        _which('joining', 'and if when than because'),
        _which('quantity', 'most many each more all some'),
        _which('whose', 'his her their its'),
        _which('pointing', 'that these this'),
        _which('person', 'students people man woman'),
        _which('asking', 'what which who how when'),
        Skill('pronoun', 'class', _pronoun, (*_PERSONS, 'nobody')),
        Skill('source', 'class', lambda item: item.source, ('story', 'exam', 'science', 'code')),
        Skill('area', 'class', _area, tuple(_AREAS)),
        Skill(
            'length', 'count', lambda item: _COUNTS[len(item.text.split())], tuple(_COUNTS.values())
        ),
    )
}

FORMATS: dict[str, Callable[[str], str]] = {
    'plain': str,
    'said': lambda answer: f'The answer is {answer}.',
    'braces': lambda answer: '{ ' + answer + ' }',
    'twice': lambda answer: f'{answer} and {answer}',
}

TOLD = {'plain': 'one word', 'said': 'say', 'braces': 'braces', 'twice': 'twice'}
"""What a prompt says where it tells the format."""


def _place(index: int) -> Answer:
    """The word at a place."""
    return lambda item: item.text.split()[index]


def _behind(is_it: Callable[[str], bool]) -> Answer:
    """What comes behind the first word of some kind."""

    def answer(item: Item) -> str | None:
        words = item.text.split()
        places = (i for i, word in enumerate(words[:-1]) if is_it(word))
        return next((words[i + 1] for i in places), None)

    return answer


def _only(is_it: Callable[[str], bool], first: int = 0) -> Answer:
    """The only word of some kind."""

    def answer(item: Item) -> str | None:
        found = [word for word in item.text.split()[first:] if is_it(word)]
        return found[0] if len(found) == 1 else None

    return answer


def _longest(item: Item) -> str | None:
    """The only longest word."""
    first, second = sorted(item.text.split(), key=len, reverse=True)[:2]
    return first if len(first) > len(second) else None


PRACTICE: dict[str, Answer] = {
    'first word': _place(0),
    'second word': _place(1),
    'third word': _place(2),
    'last word': _place(-1),
    'word before the last': _place(-2),
    'word after the': _behind(lambda word: word == 'the'),
    'word after of': _behind(lambda word: word == 'of'),
    'longest word': _longest,
    'name': _only(lambda word: bool(re.fullmatch(r'[A-Z][a-z]+', word)), first=1),
    'number': _only(str.isdigit),
    'word after the number': _behind(str.isdigit),
}
"""Skills by the name that pretraining calls them."""
