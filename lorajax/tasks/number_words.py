"""English number words: 'twenty-one', 'one hundred and five', 'three quarters'."""

import re
from collections.abc import Iterable
from fractions import Fraction

_ONE_WORDS = (
    'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen '
    'fifteen sixteen seventeen eighteen nineteen'
)
_TEN_WORDS = 'twenty thirty forty fifty sixty seventy eighty ninety'
_ONES, _TENS = _ONE_WORDS.split(), _TEN_WORDS.split()
_SMALL = {word: value for value, word in enumerate(_ONES)} | {
    word: 10 * value for value, word in enumerate(_TENS, 2)
}
SCALES = {
    'hundred': 100,
    'thousand': 10**3,
    'million': 10**6,
    'billion': 10**9,
    'trillion': 10**12,
}
_PARTS = {
    'half': 2, 'halves': 2, 'third': 3, 'quarter': 4, 'fourth': 4, 'fifth': 5, 'sixth': 6,
    'seventh': 7, 'eighth': 8, 'ninth': 9, 'tenth': 10, 'hundredth': 100,
}  # fmt: skip
_PARTS |= {f'{word}s': value for word, value in _PARTS.items() if word not in ('half', 'halves')}


def _any(words: Iterable[str]) -> str:
    """A pattern of any of the words, whole."""
    return rf'(?:{"|".join(sorted(words, key=len, reverse=True))})\b'


_A_HALF = r'(?:\s+and\s+(?:a|one)[\s-]+half\b)'
WORDS = (
    rf'(?:(?:{_any(_SMALL)}|a[\s-]+{_any(SCALES)})'
    rf'(?:(?:[\s-]+|\s+and\s+){_any((*_SMALL, *SCALES))})*+(?:{_A_HALF}|[\s-]+{_any(_PARTS)})?'
    rf'|half\b|a[\s-]+{_any(_PARTS)}(?<!s))'
)
"""A pattern of what `value` may be able to read."""


def value(text: str) -> Fraction | None:
    """Returns the number that words spell, None if they spell none ('five six', 'a')."""
    words = re.split(r'[\s-]+', text.strip().lower())
    part = Fraction(1)
    extra = Fraction(0)
    if words[-3:] in (['and', 'a', 'half'], ['and', 'one', 'half']):
        words, extra = words[:-3], Fraction(1, 2)
    elif words[-1] in _PARTS:
        part = Fraction(1, _PARTS[words[-1]])
        words = words[:-1] or ['one']
    if words == ['a'] and part != 1:
        words = ['one']
    whole = _cardinal(words)
    return None if whole is None else whole * part + extra


def _cardinal(words: list[str]) -> int | None:
    """The integer that words spell by the rules of English, most significant first."""
    total = group = 0
    last_scale = 10**15  # thousands, millions ... have to fall
    room = 'tens'  # what may still be added to the group
    if words and words[0] == 'a':
        words = ['one', *words[1:]] if len(words) > 1 and words[1] in SCALES else []
    for index, word in enumerate(words):
        if word == 'and':
            if index == 0 or index == len(words) - 1:
                return None
        elif word in _SMALL:
            number = _SMALL[word]
            if room == 'none' or (room == 'ones' and not 1 <= number <= 9):
                return None
            group += number
            room = 'ones' if number >= 20 else 'none'
        elif word == 'hundred':
            if not 1 <= group <= 99:
                return None
            group, room = group * 100, 'tens'
        elif word in SCALES:
            if not group or SCALES[word] >= last_scale:
                return None
            total, last_scale = total + group * SCALES[word], SCALES[word]
            group, room = 0, 'tens'
        else:
            return None
    return total + group if words else None
