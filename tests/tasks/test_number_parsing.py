"""Numbers read from text."""

from fractions import Fraction

import pytest

from lorajax.tasks import number_parsing


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('It is $1,250.50 in all.', [Fraction(2501, 2)]),
        ('-$5, $-6, −7 and -.5', [-5, -6, -7, Fraction(-1, 2)]),
        ('7-3 = 4, 10 - 2', [7, 3, 4, 10, 2]),
        ('half is 1/2, 50% or 3 / 4.', [Fraction(1, 2), 50, Fraction(3, 4)]),
        ('1, 2,3 and 4,000,000', [1, 2, 3, 4000000]),
        ('1/0', []),
        ('no number', []),
        ('9' * 5000, []),
        ('v2 costs 18.', [2, 18]),
        ('3.14.15', [Fraction(157, 50), Fraction(3, 20)]),
    ],
)
def test_numbers(text, expected):
    assert number_parsing.numbers(text) == expected


@pytest.mark.parametrize(
    ('text', 'expected'),
    [(' 42. ', 42), ('$1,000', 1000), ('12%', 12), ('-3', -3), ('1/3', Fraction(1, 3))],
)
def test_parse_takes_a_number_alone(text, expected):
    assert number_parsing.parse(text) == expected


@pytest.mark.parametrize('text', ['', '4 apples', '1 2', 'x', '.', '1/0'])
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
