"""Numbers read from text."""

from fractions import Fraction

import pytest

from lorajax.tasks import number_parsing


def numbers(text):
    """The values of all numbers in a text."""
    pieces = number_parsing.tokens(number_parsing.clean(text))
    return [token.value for token in pieces if token.kind == 'number']


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('It is $1,250.50 in all.', [Fraction(2501, 2)]),
        ('-$5, $-6, −7 and -.5', [-5, -6, -7, Fraction(-1, 2)]),
        ('7-3 = 4, 10 - 2', [7, 3, 4, 10, 2]),
        ('half is 1/2, 50% or 3 / 4.', [Fraction(1, 2), Fraction(1, 2), 50, Fraction(3, 4)]),
        ('1, 2,3 and 4,000,000', [1, 2, 3, 4000000]),
        ('1/0', [None]),
        ('no number', []),
        ('9' * 5000, [None]),
        ('v2 costs 18.', [18]),
        ('12,50 and 1,0000', [12, 50, 1, 0]),
        ('1 000, 1\\,000, 1{,}000 and 2\u202f000\u202f000', [1000, 1000, 1000, 2000000]),
        ('2 1/2, 1½, 2 and 1/4', [Fraction(5, 2), Fraction(3, 2), Fraction(9, 4)]),
        (
            r'$\frac{3}{4}$, $6\frac15$, \(-\dfrac12\)',
            [Fraction(3, 4), Fraction(31, 5), Fraction(-1, 2)],
        ),
        (r'1e3, $3\times10^8$, 3×10⁸, 3 x 10^8, 5e-3', [1000, *[3 * 10**8] * 3, Fraction(1, 200)]),
        ('1.2 million, 3 thousand, 5k, 18th', [1200000, 3000, 5000, 18]),
        ('minus seven, negative 7, – 7', [-7, -7, -7]),
        ('12cm, 5 km/h, 42 m^2, 3m', [12, 5, 42, 3]),
        ('twenty-one days', [21]),
        (r'\$1.2 \text{ million}, 25\%, 30^\circ, 12,\!500', [1200000, 25, 30, 12500]),
    ],
)
def test_numbers(text, expected):
    assert numbers(text) == expected


@pytest.mark.parametrize(
    'text',
    [
        '01/02/2024',
        '2024-01-02',
        '5:30',
        '3:2',
        '3.14.15',
        '7x',
        r'3\pi',
        '101_2',
        r'0.\overline{3}',
        r'2\frac{1}{4}x',
        '3R8',
    ],
)
def test_digits_that_are_no_number(text):
    pieces = number_parsing.tokens(number_parsing.clean(text))
    assert next(t.kind for t in pieces if any(map(str.isdigit, t.text))) == 'digits'
    assert number_parsing.parse(text) is None


def test_tokens_keep_every_character():
    text = number_parsing.clean('So 16 + 2 = 18 (not 20), i.e. "7x" \ud800 or −3½!\n#### ok')
    assert ''.join(token.text for token in number_parsing.tokens(text)) == text


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        (' 42. ', 42),
        ('$1,000', 1000),
        ('12%', 12),
        ('-3', -3),
        ('1/3', Fraction(1, 3)),
        ('- 7', -7),
        ('twelve', 12),
        ('18!', 18),
        ('2 1/2', Fraction(5, 2)),
        ('**18**', 18),
        ('+5', 5),
    ],
)
def test_parse_takes_a_number_alone(text, expected):
    assert number_parsing.parse(text) == expected


@pytest.mark.parametrize(
    'text', ['', '4 apples', '1 2', 'x', '.', '1/0', '5, 6', '5 or 6', '5-3', '±2', 'x = 2']
)
def test_parse_refuses_more_and_less(text):
    assert number_parsing.parse(text) is None


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ('2,125', '2125'),
        (-9867630.0, '-9867630'),
        (3244047.0999999996, '3244047.1'),
        (0.0016791648, '0.0016791648'),
        ('0.53', '0.53'),
        (1e22, '10000000000000000000000'),
        (True + 1, '2'),
    ],
)
def test_write(value, expected):
    assert number_parsing.write(value) == expected
    assert number_parsing.parse(expected) is not None


@pytest.mark.parametrize('value', ['', 'six', float('nan'), float('inf')])
def test_write_refuses_what_is_no_number(value):
    with pytest.raises(ValueError, match='number'):
        number_parsing.write(value)
