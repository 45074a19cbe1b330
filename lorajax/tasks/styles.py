"""Styles of writing: what turns plain text into a style, and whether a text is in it.

A style has a form of its words, a case, and an ending of its sentences, any of them plain; or it is
one of a few that have nothing in common with these. `Style.apply` makes training text of plain
English; `Style.is_followed` looks at text that a model wrote, and needs no other text beside it: it
asks whether common English words stand there in the style's form.
"""

import dataclasses
import functools
import re
from collections.abc import Callable

_WORD = re.compile(r"[A-Za-z']+")
_NEXT_VOWEL = str.maketrans('aeiouAEIOU', 'eiouaEIOUA')
_SMALLEST_SHARE = 0.4  # of a text's words that are common ones in the style's form

_COMMON = """
    a about after again all always an and animals around as asked at away back ball be bear
    because became bed best better big bird birds black blue book box boy bring but by came can
    car care cat children climb cold could dad day days decided did do dog down each eat even
    every everyone fast felt find fish flew flowers food for found friend friends from fun funny
    game garden gave get girl give go good got grass great green had hand happily happy hard has
    have he heard help her him his hold home hot house how hug hugged hurt i idea if in inside
    into is it its jump jumped just keep kind kitchen knew laughed learned leave like liked lily
    listen little live lived look looked loud love loved made make many max me mia mom mommy
    more morning mummy my named nearby never new next nice no not now of off oh old on once one
    open or other out outside over park people picked place play played playing pretty proud put
    ran red rock room run said sam sad sara saw say scared see share she shiny show showed sky
    small smile smiled so some someone something soon special started stay stop stopped store
    story strong sun surprised take thank that the their them then there they thing things this
    thought time timmy tim to together told tom too took toy toys tree trees tried try under
    until up upon us very walk walked wanted was water way we well went were what when where who
    will wind window with world would yes you your
"""
COMMON = frozenset(_COMMON.split())
"""Common English words, of children's stories above all."""


@dataclasses.dataclass(frozen=True)
class Form:
    """How each word is written, without regard to its case.

    Attributes:
      write: maps a word to its form.
      copies: how often each word stands there.
    """

    write: Callable[[str], str]
    copies: int = 1


FORMS: dict[str, Form] = {
    'plain': Form(lambda word: word),
    'reversed': Form(lambda word: word[::-1]),
    'rotated': Form(lambda word: word[1:] + word[:1]),
    'doubled': Form(lambda word: word, copies=2),
    'vowels': Form(lambda word: word.translate(_NEXT_VOWEL)),
    'stammered': Form(lambda word: word[:1] + word),
}
CASES: dict[str, Callable[[str], str]] = {'plain': str, 'upper': str.upper, 'lower': str.lower}
ENDINGS: dict[str, str] = {'plain': '.', 'loud': '!', 'asking': '?', 'indeed': ', indeed.'}


@dataclasses.dataclass(frozen=True)
class Style:
    """One way to write; see the module.

    Attributes:
      name: of its parts that are not plain, joined by '_'.
      kind: 'word' where the words have a form, 'mark' where only case or ending are special,
        'other' for a style of its own.
      apply: maps plain text to the style.
      parts: which parts of the style a text has, by name: form, case and ending, or the one part
        of a style of its own.
    """

    name: str
    kind: str
    apply: Callable[[str], str]
    parts: Callable[[str], dict[str, bool]]

    def is_followed(self, text: str) -> bool:
        """Whether a text is in the style: has all of its parts."""
        return all(self.parts(text).values())


def _write(text: str, form: Form, case: Callable[[str], str], ending: str) -> str:
    """Writes plain text, whose sentences end with a full stop, in a style."""
    text = _WORD.sub(lambda match: ' '.join([form.write(match[0])] * form.copies), text)
    return case(re.sub(r'\.(?=\s|$)', ending, text))


@functools.cache
def _common(form: str) -> frozenset[str]:
    """Returns the common words in a form."""
    return frozenset(map(FORMS[form].write, COMMON))


def _share(words: list[str], form: str) -> float:
    """Returns the share of words that are common ones in a form."""
    return sum(word in _common(form) for word in words) / max(len(words), 1)


def _written_parts(text: str, form: str, case: str, ending: str) -> dict[str, bool]:
    """Which of the three parts of a style a text has."""
    text = text.strip()
    ends = [CASES[case](mark) for mark in ENDINGS.values()]
    end = CASES[case](ENDINGS[ending])
    body = text.removesuffix(end)
    is_ended = text.endswith(end) and not (
        ending == 'plain' and text.lower().endswith(ENDINGS['indeed'])
    )
    is_ended = is_ended and not any(mark in body.replace(end, '') for mark in '.!?')
    for mark in sorted(ends, key=len, reverse=True):  # words of a wrong ending are no words
        body = body.replace(mark, ' ')
    words = _WORD.findall(body)
    if len(words) < 3:
        return dict.fromkeys(('form', 'case', 'ending'), False)
    has_case = _has_case(' '.join(words), case)
    words = [word.lower() for word in words]
    pairs = list(zip(words[::2], words[1::2], strict=False))
    is_doubled = sum(one == other for one, other in pairs) > 0.8 * len(pairs)
    share = _share(words, form)
    has_form = (
        is_doubled == (FORMS[form].copies == 2)
        and share >= _SMALLEST_SHARE
        and all(share >= _share(words, other) for other in FORMS)
    )
    return {'form': has_form, 'case': has_case, 'ending': is_ended}


def _has_case(letters: str, case: str) -> bool:
    """Whether letters are in a case; plain text begins a sentence with a capital, at most."""
    if case != 'plain':
        return letters == CASES[case](letters)
    return any(c.islower() for c in letters) and any(c.isupper() for c in letters)


def _composed(form: str, case: str, ending: str) -> Style:
    """The style of three parts."""
    return Style(
        '_'.join(part for part in (form, case, ending) if part != 'plain'),
        'mark' if form == 'plain' else 'word',
        lambda text: _write(text, FORMS[form], CASES[case], ENDINGS[ending]),
        lambda text: _written_parts(text, form, case, ending),
    )


def _single(
    name: str, apply: Callable[[str], str], is_followed: Callable[[list[str], str], bool]
) -> Style:
    """A style of its own; `is_followed` sees the words, in lower case, and the text."""

    def parts(text: str) -> dict[str, bool]:
        words = [word.lower() for word in _WORD.findall(text)]
        is_english = _share(words, 'plain') >= _SMALLEST_SHARE
        return {name: len(words) >= 3 and is_english and is_followed(words, text.strip())}

    return Style(name, 'other', apply, parts)


_OPENING, _MORAL = 'Oh no, ', ' The moral is to be kind.'

_SINGLES = (
    _single(
        'opening',
        lambda text: _OPENING + text[:1].lower() + text[1:],
        lambda words, text: text.startswith(_OPENING),
    ),
    _single('moral', lambda text: text + _MORAL, lambda words, text: text.endswith(_MORAL)),
    _single(
        'commas',
        lambda text: re.sub(r'(?<=\w)(?= \w)', ',', text),
        lambda words, text: text.count(',') >= 0.8 * (len(words) - 1),
    ),
    _single(
        'slow',
        lambda text: re.sub(r'(?<=\w) (?=\w)', ' ... ', text),
        lambda words, text: text.count(' ... ') >= 0.8 * (len(words) - 1),
    ),
)

STYLES: dict[str, Style] = {
    style.name: style
    for style in (
        *(
            _composed(form, case, ending)
            for form in FORMS
            for case in CASES
            for ending in ENDINGS
            if (form, case, ending) != ('plain',) * 3
        ),
        *_SINGLES,
    )
}
"""All styles by name, such as 'reversed_upper_loud'."""
