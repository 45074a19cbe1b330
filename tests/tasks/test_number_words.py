"""English number words."""

import re
from fractions import Fraction

import pytest

from lorajax.tasks import number_words


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('zero', 0),
        ('twelve', 12),
        ('twenty-one', 21),
        ('Ninety Nine', 99),
        ('a hundred', 100),
        ('one hundred and five', 105),
        ('three hundred', 300),
        ('nineteen hundred', 1900),
        ('one thousand and one', 1001),
        ('five hundred thousand', 500_000),
        ('two million five', 2_000_005),
        ('one million two hundred thousand', 1_200_000),
        ('ninety-nine thousand nine hundred ninety-nine', 99_999),
        ('half', Fraction(1, 2)),
        ('a half', Fraction(1, 2)),
        ('a third', Fraction(1, 3)),
        ('three quarters', Fraction(3, 4)),
        ('two thirds', Fraction(2, 3)),
        ('two and a half', Fraction(5, 2)),
        ('six and one half', Fraction(13, 2)),
    ],
)
def test_what_words_spell(text, value):
    assert number_words.value(text) == value
    assert re.fullmatch(number_words.WORDS, text, re.IGNORECASE)


@pytest.mark.parametrize(
    'text',
    [
        'a',
        'five six',
        'twenty ten',
        'twenty twenty',
        'ten twenty',
        'hundred',
        'and one',
        'one and',
        'thousand two',
        'two thousand three million',
        'twenty zero',
        'dozen',
        '',
    ],
)
def test_what_is_no_number(text):
    assert number_words.value(text) is None


def test_every_integer_below_two_thousand():
    ones = number_words._ONES
    tens = number_words._TENS
    spelled = set()
    for number in range(2000):
        words = []
        if number >= 1000:
            words += ['one', 'thousand']
        if number % 1000 >= 100:
            words += [ones[number % 1000 // 100], 'hundred']
        rest = number % 100
        if rest >= 20:
            words.append(tens[rest // 10 - 2] + (f'-{ones[rest % 10]}' if rest % 10 else ''))
        elif rest or not number:
            words.append(ones[rest])
        text = ' '.join(words)
        assert number_words.value(text) == number
        spelled.add(text)
    assert len(spelled) == 2000
