r"""The value of a LaTeX expression such as `2\frac{1}{4}`, read by `math_verify`.

Math-Verify (Hugging Face, the grader of its open reasoning evaluations) parses LaTeX into an
unevaluated sympy tree; the tree is evaluated here, exactly and within bounds. Its own time
limit needs signals, which only a main thread has. Ours is that only short expressions of a
small alphabet reach it: see `tests/tasks/test_latex_values.py` for how slow they can get.
"""

import functools
import logging
import re
from fractions import Fraction
from typing import Any

LONGEST = 80  # characters of an expression
_LARGEST = 1000  # bits of a numerator, denominator or power; nothing that is asked is larger
_DEEPEST = 5  # braces and parentheses within each other

_COMMANDS = ('frac', 'sqrt', 'times', 'cdot', 'div', 'left', 'right')
_ALPHABET = re.compile(rf'(?:\\(?:{"|".join(_COMMANDS)})(?![a-zA-Z])|[-+*/^(){{}}\[\]\d.\s])*')


@functools.lru_cache(maxsize=4096)
def latex_value(expression: str) -> Fraction | None:
    r"""Returns the value of an expression, None if it has none or is not understood.

    Args:
      expression: digits, brackets, + - * / ^ and the commands \frac, \sqrt, \times, \cdot,
        \div, \left, \right; `\dfrac` and `\tfrac` too.
    """
    text = re.sub(r'\\[dtc]frac(?![a-zA-Z])', r'\\frac', expression).strip()
    if len(text) > LONGEST or not _ALPHABET.fullmatch(text) or not _is_balanced(text):
        return None
    text = re.sub(r'([)}\d])\s*\*\s*', r'\1\\cdot ', text)
    text = re.sub(r'\)\s*\(', r')\\cdot(', text)  # math_verify adds what stands side by side
    trees = _parser()(f'${text}$')
    return _evaluate(trees[0]) if len(trees) == 1 else None


def _is_balanced(text: str) -> bool:
    """Returns whether brackets close in order, not too deep."""
    closing = {'(': ')', '{': '}', '[': ']'}
    expected: list[str] = []
    for character in text:
        if character in closing:
            expected.append(closing[character])
            if len(expected) > _DEEPEST:
                return False
        elif character in ')}]' and (not expected or expected.pop() != character):
            return False
    return not expected


@functools.cache
def _parser() -> Any:
    """Returns a function from LaTeX to a list of sympy trees; imports sympy, half a second."""
    import math_verify

    # It warns once that there is no time limit; the module's docstring says what is instead.
    logging.getLogger('math_verify.parser').setLevel(logging.ERROR)
    return functools.partial(
        math_verify.parse,
        extraction_config=[math_verify.LatexExtractionConfig(boxed_match_priority=-1)],
        fallback_mode='no_fallback',
        parsing_timeout=None,
    )


def _evaluate(tree: Any) -> Fraction | None:
    """The exact value of an unevaluated sympy tree of rational numbers, None beyond bounds."""
    import sympy

    if isinstance(tree, sympy.Rational):
        return _bounded(Fraction(int(tree.p), int(tree.q)))
    if isinstance(tree, sympy.Float):
        return _bounded(Fraction(str(tree)))
    if not isinstance(tree, sympy.Add | sympy.Mul | sympy.Pow):
        return None
    values = [_evaluate(argument) for argument in tree.args]
    if any(value is None for value in values):
        return None
    known = [value for value in values if value is not None]
    if isinstance(tree, sympy.Add):
        return _bounded(sum(known, Fraction(0)))
    if isinstance(tree, sympy.Mul):
        product = Fraction(1)
        for value in known:
            product *= value
        return _bounded(product)
    return _power(*known)


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """A power that is rational: an integer one, or a root that comes out even."""
    if base == 0 and exponent <= 0:
        return None
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent.numerator) * size > _LARGEST:
        return None
    if exponent.denominator == 1:
        return _bounded(base**exponent.numerator)
    root = _root(base, exponent.denominator)
    return None if root is None else _bounded(root**exponent.numerator)


def _root(base: Fraction, degree: int) -> Fraction | None:
    """The exact root of a fraction that is not negative, None if it is irrational."""
    if base < 0 or degree > _LARGEST:
        return None
    parts = [round(part ** (1 / degree)) for part in (base.numerator, base.denominator)]
    root = Fraction(parts[0], parts[1])
    return root if root**degree == base else None


def _bounded(value: Fraction) -> Fraction | None:
    """The value, None if it has more digits than any answer."""
    size = max(value.numerator.bit_length(), value.denominator.bit_length())
    return value if size <= _LARGEST else None
