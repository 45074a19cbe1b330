r"""Numbers as people and models write them, read exactly.

`tokens` splits a text into numbers and what stands between them: operators, 'or', 'not', words.
A number is a *quantity*: '-$1,250.50', '2 1/2', '1½', '3\times10^8', '\frac{3}{4}', '1 000',
'1.2 million', 'minus seven'. Digits that are no quantity of their own (dates, times, `7x`,
runs of hundreds of digits) are tokens too, so that nobody takes a part of them.
"""

import dataclasses
import decimal
import functools
import re
import unicodedata
from fractions import Fraction

from lorajax.tasks import number_words
from lorajax.tasks.latex_values import latex_value

_LONGEST = 60  # digits; longer runs are a model stuck in a loop

_DOUBLE = decimal.Context(prec=15)  # decimal digits that a float64 keeps

_SUPERSCRIPTS = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁻', '0123456789-')

# Of LaTeX and Unicode, what only changes how a number looks; applied in this order.
_CLEANED = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r'</?[a-zA-Z]+>|\*\*|__|`|\\boxed|\\fbox|\\displaystyle|\\left|\\right(?![a-z])', ''),
        (r'\\\(|\\\)|\\\[|\\\]|\\?[$€£¥₹]|\\[!%]|\$', ''),  # delimiters, currencies
        (r'\\[,;: ]|~|\\q?quad|[\u00a0\u2000-\u200a\u202f]', ' '),
        (r'\{,\}', ','),
        (r'\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}', r' \1 '),
        (r'\\begin\{[a-z*]+\}|\\end\{[a-z*]+\}|\\\\', '\n'),
        (r'\^\s*\{?\\circ\}?|°', ' degrees '),
        (r'\\approx|\\simeq|≈|≃', ' ≈ '),
        (r'\\pm|±|\+/-', ' ± '),
        (r'\\leq?|\\geq?|\\lt|\\gt|≤|≥', ' < '),
        (r'[\u2010-\u2015\u2212]', '-'),
        (
            r'(?<=[\d)}])\s*(?:\*|×|·|⋅|\\times|(?<=\s)x(?=\s+\d|\s*10\^))\s*(?=[\d(.\\])',
            r'\\cdot ',
        ),
        (r'÷', r'\\div '),
        (r'[^\S\n]+', ' '),
        (r'\be\.\s?g\.', 'eg'),
        (r'\bi\.\s?e\.', 'ie'),
        (r'\bapprox\.', 'approx'),
    )
)
_RAISED = re.compile('[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+')
_VULGAR = re.compile(r'(\d?)\s?([¼-¾⅐-⅞])')


def clean(text: str) -> str:
    r"""Returns `text` without mark-up of Markdown and LaTeX that only changes a number's look.

    Currency signs and math delimiters go, dashes become '-', '½' becomes '1/2', '×' becomes
    '\cdot'; lines stay lines.
    """
    for pattern, replacement in _CLEANED:
        text = pattern.sub(replacement, text)
    text = _RAISED.sub(lambda match: f'^{{{match[0].translate(_SUPERSCRIPTS)}}}', text)
    return _VULGAR.sub(_write_vulgar, text)


def _write_vulgar(match: re.Match[str]) -> str:
    """'1½' as '1 1/2'."""
    value = unicodedata.normalize('NFKC', match[2]).replace('\u2044', '/')
    return f'{match[1]} {value}' if match[1] else value


@dataclasses.dataclass(frozen=True)
class Token:
    """A piece of a sentence.

    Attributes:
      kind: 'number', 'digits' (that are no number), 'minus', 'operator', 'equals', 'either'
        (±), 'bound' (<, more than), 'or', 'and', 'comma', 'to', 'not', 'wrong', 'open',
        'close', 'stop' (end of a sentence), 'break' (a clause), 'word', 'space'.
      text: as cleaned.
    """

    kind: str
    text: str

    @functools.cached_property
    def value(self) -> Fraction | None:
        """What a number is; None if it cannot be told."""
        return _value(self.text) if self.kind == 'number' else None


# Atomic groups and possessive repeats keep the time linear in the text.
_GROUPED = r'\d{1,3}+(?:,\d{3})++(?!\d)(?:\.\d++)?|\d{1,3}+(?:\ \d{3})++(?![\d/])(?:\.\d++)?'
_PLAIN = r'\d++(?:\.\d++)?|\.\d++'
_EXPONENT = r'(?:[eE][-+]?\d{1,2}+(?![\d\w]))?'
_ARGUMENT = r'\s*(?:\{[^{}]{0,60}+(?:\{[^{}]{0,40}+\}[^{}]{0,40}+){0,4}+\}|\d)'
_ATOM = (
    rf'(?:(?:(?:{_GROUPED}|{_PLAIN}){_EXPONENT}(?:\s*\\[dtc]?frac{_ARGUMENT}{_ARGUMENT})?)'
    rf'|\\[dtc]?frac{_ARGUMENT}{_ARGUMENT}|\\sqrt(?:\[\d\])?{_ARGUMENT})'
    r'(?:\^(?:\{-?\d{1,4}\}|-?\d{1,4}))?'
)
_NUMBER = (
    r'(?:\d++\ +(?:and\ +)?\d++/\d++(?![\d/]|\.\d)'  # 2 1/2
    rf'|{_ATOM}(?:\s*(?:\\cdot|\\div)\s*{_ATOM})*+'
    rf'(?:\s?/\s?(?:{_GROUPED}|\d++(?!\.?\d))(?!\s?/))?)'
)
_SCALE = r'(?:(?:\s|-)?(?:hundred|thousand|million|billion|trillion)\b|k\b|(?:st|nd|rd|th)\b)?'
_DATE = (
    r'\d{1,4}(?P<between>[/.-])\d{1,2}(?P=between)\d{1,4}(?!\d)|\d+(?:\.\d+){2,}'
    r'|\d+:\d+(?::\d+)*|\d+_\{?\d+\}?'
)
_RECURRING = r'(?:\d+\.?\d*|\.\d*)\\(?:overline|bar|dot)\s*\{?\d+\}?'
_TOKEN = re.compile(
    rf"""
      (?P<date>(?:{_DATE})(?!\w)|{_RECURRING})
    | (?P<number>{_NUMBER}(?:%|{_SCALE}))
    | (?P<spelled>(?<![\w-]){number_words.WORDS}(?![\w-]))
    | (?P<wrong>(?:is|was|are|would\ be|seems)\s+(?:clearly\ |obviously\ |plainly\ |simply\ )?
        (?:wrong|incorrect|false|not\ (?:right|correct|true|it|the\ (?:right\ |correct\ )?answer))
        |isn['’]t\ (?:right|correct|true|it|the\ (?:right\ |correct\ )?answer))\b
    | (?P<not>(?:not|never|cannot|neither|nor|rather\ than|instead\ of|other\ than
        |anything\ but|no\ way|except|unlike|\w{{1,9}}n['’]t)\b|≠|\\neq?(?![a-z]))
    | (?P<bound>(?:more|less|fewer|greater|smaller|larger|higher|lower)\ than\b
        |over\b|under\b|above\b|below\b|<|>)
    | (?P<or>(?:and/)?or\b|vs\b|versus\b)
    | (?P<and>and\b|&|plus\ or\ minus\b)
    | (?P<to>to\b|through\b|between\b|-{{2,}}|\.\.+|…)
    | (?P<sign>(?:minus|negative)\b)
    | (?P<break>(?:since|because|as|so|which|where|when|but|while|for|if|per|a|each|in|of)\b
        |[:;|])
    | (?P<word>[^\W\d_]\w*(?:['’-]\w+)*(?:\ ?\^\{{?-?\d\}}?)?)
    | (?P<either>±) | (?P<equals>[=≈]) | (?P<operator>\\cdot|\\div|[+*/^]) | (?P<minus>-)
    | (?P<comma>,) | (?P<open>[(\[{{]) | (?P<close>[)\]}}])
    | (?P<stop>[.!?\n]) | (?P<space>[^\S\n]+) | (?P<other>\\[a-zA-Z]+|.)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# What may touch a number at its end: a unit, not a variable. One letter is a unit if it is one.
_UNIT = re.compile(r'[^\W\d_]{2,}|[mgslhcfwjvan](?![^\W_])|[ap]\.?m\b', re.IGNORECASE)


def tokens(text: str) -> list[Token]:
    """Splits a text, cleaned before, into what matters to who looks for numbers."""
    pieces = []
    position, end = 0, len(text)
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise AssertionError('the last alternative takes any character')
        kind, position = match.lastgroup or 'other', match.end()
        if kind in ('number', 'spelled'):
            kind = 'number' if _ends(text, position) else 'digits'
        elif kind == 'date':
            kind = 'digits'
        elif kind == 'sign':
            kind = 'minus'
        pieces.append(Token(kind, match[0]))
    return _signed(pieces)


def _ends(text: str, position: int) -> bool:
    r"""Returns whether a number may end here: not in `7x`, `3\pi`, `101_2` or `12-year-old`."""
    rest = text[position : position + 30]
    if not rest or rest[0].isspace() or rest[0] in '.,;:!?)]}%-+=/&"\'’<>≈|(*':
        return not re.match(r'\s*\\(?!cdot|div|n|begin|end)[a-zA-Z]', rest) and rest[:1] != '('
    return bool(_UNIT.match(rest))


def _signed(pieces: list[Token]) -> list[Token]:
    """Joins signs to their numbers where they are no operators."""
    joined: list[Token] = []
    index = 0
    while index < len(pieces):
        token = pieces[index]
        after = index + 1
        while after < len(pieces) and pieces[after].kind == 'space':
            after += 1
        before = [t for t in joined[-3:] if t.kind != 'space']
        touches = after == index + 1 or token.text.lower() in ('minus', 'negative')
        leads = not before or before[-1].kind in (
            'equals', 'comma', 'or', 'and', 'to', 'open', 'break', 'stop', 'not', 'bound',
            'operator',
        )  # fmt: skip
        follows_word = bool(before) and before[-1].kind == 'word' and joined[-1].kind == 'space'
        is_sign = token.kind == 'minus' or (token.kind == 'operator' and token.text == '+')
        if (
            is_sign
            and after < len(pieces)
            and pieces[after].kind == 'number'
            and (leads or (touches and follows_word))
        ):
            sign = '' if token.text == '+' else '-'
            joined.append(Token('number', sign + pieces[after].text))
            index = after + 1
        else:
            joined.append(token)
            index += 1
    return joined


@functools.lru_cache(maxsize=4096)
def _value(text: str) -> Fraction | None:
    """The value of a quantity, cleaned, sign included."""
    text = text.strip().lower()
    if text.startswith('-'):
        value = _value(text[1:])
        return None if value is None else -value
    text = re.sub(r'%$|(?<=\d)(?:st|nd|rd|th)$', '', text).strip()
    scale = re.search(r'[\s-]?([a-z]+)$', text)
    if scale and text[0] in '.0123456789' and scale[1] in (*number_words.SCALES, 'k'):
        value = _value(text[: scale.start()])
        return None if value is None else value * (number_words.SCALES | {'k': 1000})[scale[1]]
    if text[:1].isalpha():
        return number_words.value(text)
    digits = re.sub(r'(?<=\d)[, ](?=\d{3}(?:[, ]|\D|$))(?!\d{3}/)', '', text)
    if max((len(run) for run in re.findall(r'\d+', digits)), default=0) > _LONGEST:
        return None
    if '\\' in digits or '^' in digits:
        return latex_value(digits)
    mixed = re.fullmatch(r'(\d+) +(?:and +)?(\d+)/(\d+)', text)
    if mixed:
        whole, over, below = (int(part) for part in mixed.groups())
        return whole + Fraction(over, below) if over < below else None
    over_text, _, under_text = digits.replace(' ', '').partition('/')
    under = Fraction(under_text or 1)
    return Fraction(over_text) / under if under else None


def parse(text: str) -> Fraction | None:
    """Returns the number that `text` is, and None if it is anything more or less."""
    pieces = [token for token in tokens(clean(text.strip())) if token.kind != 'space']
    while pieces and pieces[-1].kind == 'stop':
        pieces.pop()
    return pieces[0].value if len(pieces) == 1 else None


def write(value: str | int | float) -> str:
    """Writes a data set's number as a reference: '2,125' and 2125.0 give '2125'.

    Integers keep all digits; others are rounded to the 15 digits that a float64 carries, so
    3244047.0999999996 gives '3244047.1'.

    Raises:
      ValueError: if `value` is no finite decimal number.
    """
    try:
        number = decimal.Decimal(str(value).strip().replace(',', ''))
    except decimal.InvalidOperation:
        raise ValueError(f'{value!r} is no number') from None
    if not number.is_finite():
        raise ValueError(f'{value!r} is no finite number')
    if number == number.to_integral_value():
        return str(int(number))
    return format(_DOUBLE.plus(number).normalize(), 'f')
