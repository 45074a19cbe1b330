"""Right and wrong ways to say a number, judged by a person, for 200 gold answers.

A phrasing is a function of `Gold` that gives a text, or None where it cannot be said of that
number (a fraction in thousands, a sum in words). `distractor` is a number that is not the gold.
"""

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import numpy as np

_ONE_WORDS = (
    'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen '
    'fifteen sixteen seventeen eighteen nineteen'
)
_TEN_WORDS = 'x x twenty thirty forty fifty sixty seventy eighty ninety'
_ONES, _TENS = _ONE_WORDS.split(), _TEN_WORDS.split()


@dataclasses.dataclass(frozen=True)
class Gold:
    """A right answer and what phrasings need of it."""

    value: Fraction
    distractor: Fraction

    @property
    def reference(self) -> str:
        """As data sets write it: an integer, a decimal or p/q."""
        return plain(self.value)


def plain(value: Fraction) -> str:
    """'-1250', '0.75', '2/3'."""
    if value.denominator == 1:
        return str(value.numerator)
    if 10**6 % value.denominator == 0:
        return f'{float(value):.6f}'.rstrip('0')
    return f'{value.numerator}/{value.denominator}'


def grouped(value: Fraction, separator: str = ',') -> str:
    """'-1,250'; as `plain` where there is nothing to group."""
    if value.denominator == 1:
        return f'{value.numerator:,}'.replace(',', separator)
    return plain(value)


def latex(value: Fraction, command: str = 'frac') -> str:
    r"""'-\frac{2}{3}', decimals as they are."""
    if '/' not in plain(value):
        return plain(value)
    sign = '-' if value < 0 else ''
    return f'{sign}\\{command}{{{abs(value.numerator)}}}{{{value.denominator}}}'


def improper(value: Fraction) -> str | None:
    r"""Every number that is no integer as \frac."""
    if value.denominator == 1:
        return None
    sign = '-' if value < 0 else ''
    return f'{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}'


def mixed(value: Fraction, write: Callable[[int, int, int], str]) -> str | None:
    """Whole part and rest of positive numbers above one with a small denominator."""
    whole, over = divmod(value.numerator, value.denominator)
    if value.denominator == 1 or whole < 1 or value.denominator > 100:
        return None
    return write(whole, over, value.denominator)


def words(value: Fraction) -> str | None:
    """'twelve', 'forty-two', 'three hundred and five'."""
    number = value.numerator
    if value.denominator != 1 or not 0 <= number < 1000:
        return None
    if number >= 100:
        rest = number % 100
        tail = f' and {words(Fraction(rest))}' if rest else ''
        return f'{_ONES[number // 100]} hundred{tail}'
    if number < 20:
        return _ONES[number]
    return _TENS[number // 10] + (f'-{_ONES[number % 10]}' if number % 10 else '')


def _golds() -> list[Gold]:
    rng = np.random.default_rng(11)
    values = [Fraction(int(n)) for n in rng.choice(np.arange(-60, 400), 90, replace=False)]
    values += [Fraction(int(n)) for n in rng.choice(np.arange(1000, 90_000), 25, replace=False)]
    values += [Fraction(int(n) * 1000) for n in rng.choice(np.arange(1, 4000), 15, replace=False)]
    cents = rng.choice(np.arange(-500, 90_000), 30, replace=False)
    values += [Fraction(int(n) * 2 + 1, 200) for n in cents]
    while len(values) < 200:
        over, under = (int(n) for n in rng.integers([1, 3], [60, 24]))
        value = Fraction(over, under) * (-1 if rng.random() < 0.2 else 1)
        if value.denominator > 2 and value not in values:
            values.append(value)
    return [Gold(value, value + int(rng.integers(2, 9))) for value in values]


GOLDS = _golds()

Phrasing = Callable[[Gold], str | None]


def _template(text: str) -> Phrasing:
    """Fills {n} plain, {c} grouped, {l} LaTeX, {d} the distractor, {a} + {b} = {n}."""

    def phrase(gold: Gold) -> str:
        part = Fraction(int(gold.value) // 2 + 3)
        return (
            text.replace('{n}', plain(gold.value))
            .replace('{c}', grouped(gold.value))
            .replace('{l}', latex(gold.value))
            .replace('{d}', plain(gold.distractor))
            .replace('{a}', plain(part))
            .replace('{b}', plain(gold.value - part))
        )

    return phrase


def _where(holds: Callable[[Fraction], bool], text: str) -> Phrasing:
    """A template for some golds only."""
    phrase = _template(text)
    return lambda gold: phrase(gold) if holds(gold.value) else None


def _scientific(gold: Gold) -> str | None:
    number = gold.value.numerator
    if gold.value.denominator != 1 or number == 0 or number % 1000:
        return None
    return f'${number // 1000} \\times 10^{{3}}$'


def _positive(value: Fraction) -> bool:
    return value > 0


_RIGHT = (
    '{n}',
    '{n}.',
    '{c}',
    '${c}',
    '{n}\n',
    '**{n}**',
    '`{n}`',
    '= {n}',
    '{n} is the answer.',
    'The final answer is {n}.',
    'The final answer is: $\\boxed{{l}}$',
    '\\boxed{{l}}',
    '\\[\n\\boxed{{l}}\n\\]',
    'So the result is {n}, as required.',
    '**Answer:** {n}',
    'Answer:\n\n{n}',
    '### Final Answer\n{n}',
    '####{n}',
    '#### ${c}',
    'ANSWER: {n}!',
    'First 3 and 4 make 7.\n#### {n}\n\nHope this helps with question 2!',
    'After 12 steps we have x = {n}.',
    'x = {n}',
    '$x = {l}$',
    'Therefore, \\(x = {l}\\).',
    'The parts are {a} and {b}, so together {n}.',
    'Total = {n} dollars',
    'Answer = {n}',
    'That gives {n} apples in total.',
    'It comes to {c} km per hour.',
    '{n} cm^2',
    '{n} m²',
    '${l}\\text{ miles}$',
    '${l}$',
    '\\({l}\\)',
    '$${l}$$',
    'She needs exactly {n} of them.',
    'The correct result should be {n}.',
    'The answer would be {n} units.',
    'Thus we obtain \\boxed{{l}} from 3 equations.',
    'My answer is {n}, because 2 and 3 divide it.',
    'The answer is not {d}; it is {n}.',
    'It is {n}, not {d}.',
    'Final result: {n}',
    'One might think {d}, but the answer is {n}.',
    'The answer is {n} (I first had {d}).',
    'So the answer is **{n}**.',
    'The solution is $x={l}$.',
    '<answer>{n}</answer>',
    'Step 1: 2 + 3 = 5\nStep 2: the rest follows\nThe answer is {n}.',
    'The answer is {n}\n\nLet me know if you have 2 more questions.',
    '\\boxed{{l} \\text{ dollars}}',
    'The number of coins is {n}.',
    'I get {n}',
    '{n} percent',
    'Final Answer: The final answer is ${l}$. I hope it is correct.',
    '| Total | {n} |',
    '- Cost: 3\n- Total: {n}',
    '{c} USD',
    'The answer is: \n\n$$\n{l}\n$$',
    'About {n}',
    'The answer to how many there are in 7 days is {n}.',
    'Thus, $a + b = {l}$, and we are done.',
    'He has {a} + {b} = {n} coins.',
    'The final answer: {n}',
    '{d} is wrong, the answer is {n}.',
    'The sum is {n}. That is all.',
    '**Final answer: {n}**',
    'Altogether: **{n}** coins for 3 days.',
    'Since 3 is odd, the answer must be {n}.',
)

RIGHT: dict[str, Phrasing] = {text: _template(text) for text in _RIGHT} | {
    'improper fraction': lambda gold: improper(gold.value),
    'dfrac in a box': lambda gold: f'$\\boxed{{{latex(gold.value, "dfrac")}}}$',
    'tfrac': lambda gold: f'It is ${latex(gold.value, "tfrac")}$.',
    'short frac': lambda gold: (
        f'\\frac{gold.value.numerator}{gold.value.denominator}'
        if 0 < gold.value.numerator < 10 and 1 < gold.value.denominator < 10
        else None
    ),
    'mixed': lambda gold: mixed(gold.value, lambda w, o, u: f'The answer is {w} {o}/{u}.'),
    'mixed in LaTeX': lambda gold: mixed(gold.value, lambda w, o, u: f'${w}\\frac{{{o}}}{{{u}}}$'),
    'mixed with and': lambda gold: mixed(
        gold.value, lambda w, o, u: f'It is {w} and {o}/{u} cups.'
    ),
    'true minus': lambda gold: plain(gold.value).replace('-', '−'),
    'negative': lambda gold: f'negative {plain(-gold.value)}' if gold.value < 0 else None,
    'words': lambda gold: words(gold.value),
    'in words': lambda gold: f'She has {words(gold.value)} left.' if words(gold.value) else None,
    'answer in words': lambda gold: (
        f'The answer is {words(gold.value)}.' if words(gold.value) else None
    ),
    'spaced groups': lambda gold: f'It is {grouped(gold.value, " ")}.',
    'thin groups': lambda gold: grouped(gold.value, '\u202f'),
    'LaTeX groups': lambda gold: f'$\\boxed{{{grouped(gold.value, "{,}")}}}$',
    'scientific': _scientific,
    'thousand': lambda gold: (
        f'{gold.value.numerator // 1000} thousand' if _scientific(gold) else None
    ),
    'million': lambda gold: (
        f'The answer is {plain(gold.value / 10**6)} million.'
        if _scientific(gold) and gold.value >= 10**6
        else None
    ),
    'cents': lambda gold: (
        f'${float(gold.value):.2f}'
        if 200 % gold.value.denominator == 0
        and (gold.value * 100).denominator == 1
        and gold.value > 0
        else None
    ),
}

_WRONG = (
    '',
    'I do not know.',
    '{d}',
    'The answer is {d}.',
    'The answer is {d}, not {n}.',
    '{n} or {d}',
    '{d} or {n}',
    'either {d} or {n}',
    '{n}, {d}',
    '{d}, {n}',
    '{d} and {n}',
    'between {d} and {n}',
    '{d} to {n}',
    'It is not {n}.',
    '{n} is wrong.',
    "I don't think it's {n}.",
    "The answer isn't {n}, it's {d}.",
    'x > {n}',
    'more than {n}',
    '\\boxed{{d}}, since {a} + {b} = {n}.',
    '#### {d}\nI also considered {n}',
    '{n}x',
    '${l}\\pi$',
    '± {n}',
    '$\\pm {l}$',
    'x = {n} or x = {d}',
    'x = {d}, y = {n}',
    '\\boxed{{n}, {d}}',
    '\\boxed{{l} \\text{ or } {d}}',
    'The answer could be {n} or {d}.',
    'The answer is {n} hours and 30 minutes.',
    'Not {n}.',
    'The answer is {n} + {d}.',
    'The answer is less than {n}.',
    'So it is {d} instead of {n}.',
    '{n} < x',
    'The answer is {d}. It cannot be {n}.',
    'Answer: {d}\n\nNote: {n} is a common mistake.',
    '{n} is not the answer.',
    'The answer is {n} or maybe {d}.',
    'Answer: {n} to {d}',
)

WRONG: dict[str, Phrasing] = {text: _template(text) for text in _WRONG} | {
    'other sign': lambda gold: plain(-gold.value) if gold.value else None,
    'dashed': _where(_positive, '– {n}'),
    'spelled minus': _where(_positive, 'minus {n}'),
    'a digit more': lambda gold: f'1{plain(abs(gold.value))}',
    'difference': _where(_positive, '{d}-{n}'),
    'range': _where(_positive, '{d}–{n}'),
    'square': lambda gold: f'${latex(gold.value)}^2$' if gold.value not in (0, 1) else None,
    'root': lambda gold: f'$\\sqrt{{{latex(gold.value)}}}$' if gold.value not in (0, 1) else None,
    'half': lambda gold: f'$\\frac{{{plain(gold.value)}}}{{2}}$' if gold.value else None,
    'scaled': lambda gold: f'{plain(gold.value)} million' if gold.value else None,
    'date': lambda gold: (
        f'03/{gold.value}/2021' if gold.value.denominator == 1 and 0 < gold.value < 29 else None
    ),
    'time': lambda gold: (
        f'at {gold.value}:30' if gold.value.denominator == 1 and 0 <= gold.value < 24 else None
    ),
    'ratio': lambda gold: f'{gold.value}:7' if gold.value.denominator == 1 else None,
    'another in words': lambda gold: words(gold.distractor),
}
