"""Is a prediction right? One pure function per kind of answer.

`score` judges one prediction, `score_batch` many: programs run in parallel there. A
reference answer scores 1 and an empty one 0 under every scorer.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import regex

from lorajax.errors import InputError
from lorajax.sandbox import runner
from lorajax.tasks import final_answer, letters, number_parsing, styles
from lorajax.tasks.code_extraction import extract_code
from lorajax.tasks.task import Example


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The verdict on one prediction; `details` is JSON-able and depends on the scorer."""

    correct: bool
    details: dict[str, Any]


def numeric(example: Example, prediction: str) -> Outcome:
    """Compares numbers, not strings.

    Two readings of the prediction (`lorajax.tasks.final_answer`): strict, in the place where an
    answer is asked for, and flexible, what the last sentence with a number ends on. The verdict
    takes the strict one where there is such a place, else the flexible one. An item with a
    pattern in `meta['extract']` is read where `extract` finds it.

    Returns:
      details: strict, flexible: bool; parsed: the number taken, str or None.
    """
    reference = number_parsing.parse(example.reference)
    if reference is None:
        raise InputError(f'{example.item}: reference {example.reference!r} is no number')
    prediction = extract(example, prediction)
    strict, flexible = final_answer.strict(prediction), final_answer.flexible(prediction)
    parsed = strict.value if strict.is_there else flexible.value
    return Outcome(
        correct=_equal(parsed, reference),
        details={
            'strict': _equal(strict.value, reference),
            'flexible': _equal(flexible.value, reference),
            'parsed': None if parsed is None else str(parsed),
        },
    )


def _equal(number: Fraction | None, reference: Fraction) -> bool:
    """Exact for integers; within one part in a million where decimals may be cut off."""
    if number is None:
        return False
    if reference.denominator == 1:
        return number == reference
    return abs(number - reference) <= abs(reference) / 10**6


def letter(example: Example, prediction: str) -> Outcome:
    """Compares the chosen letter; a choice named by its words counts as its letter.

    Returns:
      details: letter: what was read (`lorajax.tasks.letters`), str or None.
    """
    chosen = letters.chosen(prediction, example.meta['labels'], example.meta['choices'])
    return Outcome(chosen == example.reference, {'letter': chosen})


def exact(example: Example, prediction: str) -> Outcome:
    """Compares texts up to white space; of an item with `meta['ignore_case']`, up to case, too.

    An item with a pattern in `meta['extract']` is read where `extract` finds it.

    Returns:
      details: extracted: str, if there is a pattern; else empty.
    """
    found = extract(example, prediction)
    words, expected = found.split(), example.reference.split()
    if example.meta.get('ignore_case'):
        words, expected = [[w.casefold() for w in text] for text in (words, expected)]
    details = {'extracted': found} if 'extract' in example.meta else {}
    return Outcome(bool(words) and words == expected, details)


def matches(example: Example, prediction: str) -> Outcome:
    """Looks for a match of the item's own pattern, `meta['pattern']`, anywhere in the prediction.

    Returns:
      details: match: str or None.
    """
    found = _search(example.meta['pattern'], prediction)
    return Outcome(bool(found), {'match': found[0] if found else None})


def extract(example: Example, prediction: str) -> str:
    """Returns the part of a prediction that a scorer reads.

    Args:
      example: with a regular expression in `meta['extract']`, or none: then all is read.
      prediction: what the model wrote.

    Returns:
      What the first group of the expression's last match holds, the match where there is no
      group, '' where there is no match.
    """
    pattern = example.meta.get('extract')
    if pattern is None:
        return prediction
    found = _search(pattern, prediction)
    return found[-1] if found else ''


_LONGEST = 100_000  # characters of a prediction in which an expression is looked for, its last ones
_SECONDS = 1.0  # that a match may take: of a hostile text an expression may never be done


def _search(pattern: str, text: str) -> list[str]:
    """Returns what the first group of each match holds, or the match; none where time runs out."""
    try:
        found = list(regex.finditer(pattern, text[-_LONGEST:], timeout=_SECONDS))
    except TimeoutError:
        return []
    return [match[1] if match.re.groups and match[1] is not None else match[0] for match in found]


def answer_span(example: Example, prediction: str) -> bool:
    """The proxy of the seed: one of prediction and reference code is a span of the other.

    White space is dropped first. The report calls it "cheap answer-string/span matching" and
    gives no code, so this is our reading of it, shown beside pass@1 and never instead of it
    where programs may run.
    """
    got, expected = (
        ''.join(text.split())
        for text in (extract_code(prediction, _entry_points(example)), example.reference)
    )
    return bool(got) and (got in expected or expected in got)


def code(example: Example, prediction: str) -> Outcome:
    """Judges a program by the proxy alone; `score_batch` runs it where that is allowed."""
    proxy = answer_span(example, prediction)
    return Outcome(proxy, {'by': 'proxy', 'proxy': proxy})


def style(example: Example, prediction: str) -> Outcome:
    """Whether a text is in a style of writing, `meta['style']`, whatever it says; see `styles`.

    Returns:
      details: parts: which parts of the style the text has, {name: bool}.

    Raises:
      InputError: on an unknown style.
    """
    name = example.meta['style']
    if name not in styles.STYLES:
        raise InputError(f'{example.item}: unknown style {name!r}')
    parts = styles.STYLES[name].parts(prediction)
    return Outcome(all(parts.values()), {'parts': parts})


SCORERS: dict[str, Callable[[Example, str], Outcome]] = {
    'numeric': numeric,
    'letter': letter,
    'exact': exact,
    'regex': matches,
    'code': code,
    'style': style,
}


def score(scorer: str, example: Example, prediction: str) -> Outcome:
    """Judges one prediction without running any code.

    Raises:
      InputError: on an unknown scorer.
    """
    if scorer not in SCORERS:
        raise InputError(f'unknown scorer {scorer!r}: expected one of {", ".join(SCORERS)}')
    return SCORERS[scorer](example, prediction)


def score_batch(
    scorer: str,
    examples: Sequence[Example],
    predictions: Sequence[str],
    allow_code_execution: bool = False,
    workers: int | None = None,
) -> list[Outcome]:
    """Judges one prediction per example.

    Args:
      scorer: a name of `SCORERS`.
      examples: the items.
      predictions: the model's answers, in the order of the items.
      allow_code_execution: run programs in the sandbox; without it 'code' is judged by the
        proxy. Other scorers ignore it.
      workers: programs run at a time; None for one per CPU core.

    Returns:
      One outcome per example. Details of a program that ran: by: 'sandbox'; proxy: bool;
      passed_base, and passed_plus where the item has more tests: bool; error: str or None,
      why it failed. It is correct if it passed all.

    Raises:
      InputError: on an unknown scorer, or if programs are to run and cannot be confined.
    """
    outcomes = [score(scorer, e, p) for e, p in zip(examples, predictions, strict=True)]
    if scorer != 'code' or not allow_code_execution:
        return outcomes
    programs = [program(e, p) for e, p in zip(examples, predictions, strict=True)]
    distinct = list(dict.fromkeys(programs))  # methods often agree word for word
    verdicts = dict(zip(distinct, runner.run_programs(distinct, workers=workers), strict=True))
    return [
        _from_verdict(outcome, verdicts[program])
        for outcome, program in zip(outcomes, programs, strict=True)
    ]


_DEFINED = re.compile(r'^(?:(?:def|class)\s+(?=\w)|(?=\w+\s*=(?!=)))(\w+)', re.MULTILINE)
_IMPORT = re.compile(r'^(?:import|from)\s.+$', re.MULTILINE)


def program(example: Example, prediction: str) -> runner.Program:
    """Returns what the sandbox runs: the code of a prediction and the tests of its item.

    Tests see the functions, classes and constants that the reference solution defines, and
    what it imports (some asserts use sys or math without importing it). The imports of the
    item's setup are made for the prediction too, as where all runs in one namespace.
    """
    setup = example.meta['setup']
    tests = {'base': '\n'.join(example.meta['base'])}
    if 'plus' in example.meta:
        tests['plus'] = example.meta['plus']
    imports = '\n'.join(_IMPORT.findall(example.reference))
    return runner.Program(
        code=extract_code(prediction, _entry_points(example)),
        names=_defined(example),
        tests=tuple((name, f'{imports}\n{setup}\n{test}') for name, test in tests.items()),
        prelude='\n'.join(_IMPORT.findall(setup)),
    )


def _defined(example: Example) -> tuple[str, ...]:
    """The names that the reference solution defines, each once."""
    return tuple(dict.fromkeys(_DEFINED.findall(example.reference)))


def _entry_points(example: Example) -> list[str]:
    """Those of them that the tests use."""
    meta = example.meta
    tests = '\n'.join([meta['setup'], *meta['base'], meta.get('plus', '')])
    words = set(re.findall(r'\w+', tests))
    return [name for name in _defined(example) if name in words]


def _from_verdict(outcome: Outcome, verdict: runner.Verdict) -> Outcome:
    """The outcome of a program that ran; `outcome` is the proxy's."""
    failures = verdict.failures
    return Outcome(
        correct=all(map(verdict.passed, failures)),
        details={
            'by': 'sandbox',
            'proxy': outcome.correct,
            **{f'passed_{test}': verdict.passed(test) for test in failures},
            'error': next((failure for failure in failures.values() if failure), None),
        },
    )
