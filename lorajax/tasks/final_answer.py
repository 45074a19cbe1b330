r"""Which number of a text is its answer, read as a person would read it.

Two readings, as in lm-evaluation-harness. *Strict*: the number in a place made for it, behind
'####' or 'the answer is', in \boxed{}, or the whole text. *Flexible*: the number that the last
sentence with a number ends on. In both, '16 + 2 = 18' is 18, 'not 7 but 8' is 8, and what does
not commit itself ('5 or 6', '5, 6', '5-3', '±2', 'more than 5') is no answer.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

from lorajax.tasks.number_parsing import Token, clean, tokens

_LONGEST = 8000  # characters; the answer of a longer text is looked for at its end

_MARK = re.compile(
    r"""
      \#{4,}
    | <answer>
    | \b(?:answers?|result|solution)\b [^.\n:=]{0,80}?
        \b(?:is|are|equals|be|comes\ to|amounts\ to|works\ out(?:\ to|\ at)?)\b :?
    | \b(?:answer|ans|result|solution)(?:\s*\([^()\n]{0,40}\))?[*_]*\s*[:=]+
    | ^[\#>*\ ]*(?:the\ )?(?:final\ |correct\ )?answer[*_\ ]*(?:-{1,2}\s|$)
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
# Words that may stand between a mark and its number without being part of the claim.
_FILLER_WORDS = (
    'about approximately roughly around exactly just simply equal equals to thus therefore hence '
    'so then indeed still clearly the number value total sum amount of is a an therefore only '
    'precisely nearly almost given by as follows it that be below here now but rather instead '
    'actually ; : |'
)
_FILLER = frozenset(_FILLER_WORDS.split())
# Words that may stand between 'not' and the number that it denies.
_DENIABLE_WORDS = (
    "the a an equal equals to exactly just be been really simply it is it's its think believe say "
    "that that's this answer value number actually quite or nor my = x"
)
_DENIABLE = frozenset(_DENIABLE_WORDS.split())
_ASIDE = re.compile(r'\s*\(?(?:note|nb|n\.b\.|p\.?s\.?|hope|i hope|let me know|please)\b', re.I)
_BRACE = re.compile(r'(\\(?:boxed|fbox)\s*)?\{|\}')
_BOLD = re.compile(r'\*\*([^*\n]{1,60})\*\*')


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one way of looking found.

    Attributes:
      is_there: whether there is a place to look at.
      value: the number that stands there; None if it is no number, or more than one.
    """

    is_there: bool
    value: Fraction | None = None


NOTHING = Reading(False)


def boxed(text: str) -> list[tuple[int, str]]:
    r"""Returns (where it begins, content) of every closed \boxed{} of a text, in order."""
    places = []
    unclosed: list[re.Match[str]] = []
    for brace in _BRACE.finditer(text):
        if brace[0] != '}':
            unclosed.append(brace)
        elif unclosed:
            opening = unclosed.pop()
            if opening[1]:
                places.append((opening.start(), text[opening.end() : brace.start()]))
    return sorted(places)


def strict(text: str) -> Reading:
    """Returns the number in the place where the prompt asks for it: the last such place.

    Without a place, a text that is a number and nothing else is read as a whole.
    """
    text = text[-_LONGEST:]
    places = [(start, True, content) for start, content in boxed(text)]
    places += [(m.start(), False, _denial(m[0]) + text[m.end() :]) for m in _MARK.finditer(text)]
    for _, is_whole, rest in sorted(places, key=lambda place: place[0], reverse=True):
        reading = _claimed(tokens(clean(rest[:400])), is_whole)
        if reading.is_there:
            return reading
    pieces = _visible(tokens(clean(text.strip()[:400]))) if len(text.strip()) <= 400 else []
    while pieces and pieces[-1].kind == 'stop':
        pieces.pop()
    return Reading(True, pieces[0].value) if len(pieces) == 1 and _is_number(pieces[0]) else NOTHING


def _denial(mark: str) -> str:
    """'not ' if a mark such as 'the answer cannot be' denies what follows it."""
    return 'not ' if re.search(r"\b(?:not|never|cannot)\b|n['’]t\b", mark) else ''


def flexible(text: str) -> Reading:
    """Returns the number on which the last sentence with a number ends."""
    text = _without_asides(text[-_LONGEST:])
    paragraph = text.rstrip().rpartition('\n\n')[2]
    for match in reversed(list(_BOLD.finditer(paragraph))):
        pieces = _visible(tokens(clean(match[1])))
        if pieces and _is_number(pieces[0]) and all(p.kind in _TAIL for p in pieces[1:]):
            return Reading(True, pieces[0].value)
    sentences = _sentences(tokens(clean(text)))
    spelled = not any(_has_digits(token) for sentence in sentences for token in sentence)
    denied: set[Fraction | None] = set()
    for sentence in reversed(sentences):
        if not any(_is_number(t) and (spelled or _has_digits(t)) for t in sentence):
            continue
        sentence, dropped = _without_denied(sentence)
        denied |= dropped
        has_equation = any(token.kind == 'equals' for token in sentence)
        sentence = _right_side(sentence)
        numbers = [
            i for i, t in enumerate(sentence) if _is_number(t) and (spelled or _has_digits(t))
        ]
        if numbers:
            comes_first = has_equation and numbers[0] == 0  # '... = 18 apples in 3 days'
            value = _commitment(sentence, numbers[0 if comes_first else -1], comes_first)
            return Reading(True, None if value in denied else value)
    return NOTHING


_TAIL = ('word', 'stop', 'close', 'comma', 'break')


def _is_number(token: Token) -> bool:
    """Returns whether a token is a number or made of digits."""
    return token.kind in ('number', 'digits')


def _has_digits(token: Token) -> bool:
    """Returns whether a token is a number that is not spelled in words."""
    return _is_number(token) and not token.text.lstrip('-')[:1].isalpha()


def _visible(pieces: Iterable[Token]) -> list[Token]:
    """Tokens that are no spaces."""
    return [token for token in pieces if token.kind != 'space']


def _sentences(pieces: Sequence[Token]) -> list[list[Token]]:
    """Cuts at the ends of sentences and lines; bullets of a list are no minus signs."""
    sentences: list[list[Token]] = [[]]
    for token in _visible(pieces):
        if token.kind == 'stop':
            sentences.append([])
        else:
            sentences[-1].append(token)
    return [sentence for sentence in sentences if sentence]


def _without_asides(text: str) -> str:
    """Drops closing paragraphs and lines that are no part of the answer."""
    kept = [line for line in text.split('\n') if line.strip()]
    while len(kept) > 1 and _ASIDE.match(kept[-1]):
        kept.pop()
    return '\n'.join(kept) if len(kept) < text.count('\n') + 1 else text


def _claimed(pieces: Sequence[Token], is_whole: bool) -> Reading:
    """The number that follows a mark, or fills a box."""
    dropped: set[Fraction | None] = set()
    for sentence in _sentences(pieces):
        clause, newly = _without_denied(sentence)
        dropped |= newly
        if not clause:
            continue
        ending = next(
            (i for i, t in enumerate(clause) if i and t.kind in ('break', 'open')), len(clause)
        )
        if any(token.kind == 'equals' for token in clause[:ending]):
            clause = _right_side(clause[:ending])
        start = 0
        while start < len(clause) and (
            clause[start].text.lower() in _FILLER or clause[start].kind in ('open', 'comma')
        ):
            start += 1
        if start == len(clause):
            continue
        if clause[start].kind == 'either':
            return Reading(True)
        if not _is_number(clause[start]):
            has_number = any(_is_number(token) for token in clause)
            return Reading(True) if (is_whole and has_number) or dropped else NOTHING
        value = _commitment(clause, start, is_leading=True)
        return Reading(True, None if value in dropped else value)
    return Reading(True) if dropped else NOTHING


def _without_denied(sentence: Sequence[Token]) -> tuple[list[Token], set[Fraction | None]]:
    """Drops numbers that the sentence denies: 'not 7', '7 is wrong'. Returns them too."""
    kept: list[Token] = []
    dropped: set[Fraction | None] = set()
    is_denied = False
    for token in sentence:
        if token.kind == 'not':
            is_denied = True
        elif token.kind == 'wrong':
            if kept and _is_number(kept[-1]):
                dropped.add(kept.pop().value)
        elif is_denied and _is_number(token):
            dropped.add(token.value)
            while kept and kept[-1].kind in ('comma', 'or', 'and'):
                kept.pop()
        else:
            is_denied = is_denied and token.text.lower() in _DENIABLE
            kept.append(token)
    return kept, dropped


def _right_side(sentence: list[Token]) -> list[Token]:
    """What an equation comes to: its right side, or the left one if the right is a sum."""
    places = [i for i, token in enumerate(sentence) if token.kind == 'equals']
    if not places:
        return sentence
    last = places[-1]
    right = sentence[last + 1 :]
    if len(places) == 1 and last and len(right) > 2 and right[1].kind in ('operator', 'minus'):
        number = sentence[last - 1]
        alone = last == 1 or sentence[last - 2].kind not in ('operator', 'minus', 'number')
        if _is_number(number) and alone:
            return [number]
    if len(places) > 1:  # 'x = 2 or x = -2', 'x = 1, y = 2'
        other = sentence[max(0, last - 3) : last - 1]
        if len(other) == 2 and _is_number(other[0]) and other[1].kind in ('or', 'and', 'comma'):
            return [*other, *right]
    return right


def _commitment(sentence: Sequence[Token], index: int, is_leading: bool = False) -> Fraction | None:
    """The value of the number at `index`, None if the sentence offers another beside it.

    Args:
      sentence: tokens without spaces.
      index: of a number.
      is_leading: the number stands in the place of an answer, so what follows it counts too.
    """
    number = sentence[index]
    values = {number.value}
    before = [token.kind for token in sentence[max(0, index - 4) : index]]
    if before and before[-1] in ('bound', 'either', 'operator', 'digits'):
        return None
    if any(token.text in ('<', '>') for token in sentence[index + 1 : index + 2]):
        return None
    if before[-2:] and before[-1] in ('minus', 'to') and before[-2:-1] == ['number']:
        return None
    for place in (index - 2, index - 3, index - 4):
        gap = [token.kind for token in sentence[place + 1 : index]]
        if place >= 0 and _is_number(sentence[place]) and _offers(gap, loose=False):
            values.add(sentence[place].value)
            break
    if is_leading:
        rest = sentence[index + 1 : index + 6]
        if rest and rest[0].kind in ('operator', 'minus', 'to') and any(map(_is_number, rest[:2])):
            return None
        for place, token in enumerate(rest):
            if _is_number(token):
                gap = [t.kind for t in rest[:place]]
                if _offers(gap, loose=True):
                    values.add(token.value if gap in ([], ['comma'], ['or'], ['and']) else None)
                break
    return number.value if len(values) == 1 else None


def _offers(gap: Sequence[str], loose: bool) -> bool:
    """Returns whether what stands between two numbers makes them two answers.

    'or' does, with units too ('5 apples or 6 apples'); a comma or nothing only alone; 'and'
    with units only where the first number is the answer ('5 hours and 30 minutes').
    """
    num_words = sum(kind in ('word', 'break') for kind in gap)
    joints = [kind for kind in gap if kind not in ('word', 'break')]
    if 'or' in joints:
        return num_words <= 3
    if 'break' in gap:  # '$120 in two days'
        return False
    if joints == ['and'] or joints == ['comma', 'and']:
        return num_words == 0 or (loose and num_words <= 2)
    if joints == ['comma']:
        return num_words == 0
    return not joints and (num_words == 0 or (loose and num_words == 1))
