"""Numbers as people and models write them, read exactly."""

import decimal
import re
from fractions import Fraction

# A sign counts where it touches its number and follows no operand (as in 7-3 or 10 - 2); a
# comma only before three digits. The denominator is for answers such as 3/4.
_NUMBER = re.compile(
    r'(?:(?<![\w.)])[-−])?(?:[$€£]\s?(?:[-−])?)?'
    r'(?P<whole>\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)'
    r'(?:\s?/\s?(?P<denominator>\d+(?:,\d{3})*(?!\.?\d)))?'
)
_LONGEST = 60  # digits; longer runs are a model stuck in a loop, and slow to convert

_DOUBLE = decimal.Context(prec=15)  # decimal digits that a float64 keeps


def numbers(text: str) -> list[Fraction]:
    """Returns all numbers in `text`, in order: '-$1,250.50' is -2501/2, '3/4' is 3/4, '5%' is 5.

    A fraction with denominator 0 and a run of more than 60 digits are skipped.
    """
    found = []
    for match in _NUMBER.finditer(text):
        whole = match['whole'].replace(',', '')
        denominator = (match['denominator'] or '1').replace(',', '')
        if len(whole) > _LONGEST or len(denominator) > _LONGEST or int(denominator) == 0:
            continue
        sign = -1 if re.search('[-−]', match[0]) else 1
        found.append(sign * Fraction(whole) / int(denominator))
    return found


def parse(text: str) -> Fraction | None:
    """Returns the number that `text` is, and None if it is anything more or less."""
    cleaned = text.strip().rstrip('.%').strip()
    match = _NUMBER.fullmatch(cleaned)
    found = numbers(cleaned) if match else []
    return found[0] if found else None


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
