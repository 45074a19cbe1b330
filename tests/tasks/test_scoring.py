"""Scorers: what counts as right."""

import time

import pytest

from lorajax.errors import InputError
from lorajax.tasks import scoring
from lorajax.tasks.task import Example
from tests.tasks.maths_phrasings import GOLDS, RIGHT, WRONG

CHOICES = {'labels': ['A', 'B', 'C', 'D'], 'choices': ['a wolf', 'a bear', 'A fox.', 'an owl']}
CODE = {'setup': '', 'base': ['assert add(1, 2) == 3', 'assert add(0, 0) == 0']}
ADD = 'def add(a, b):\n    return a + b'


def example(reference: str, **meta) -> Example:
    return Example(item='i', prompt='p', answer=reference, reference=reference, meta=meta)


@pytest.mark.parametrize(
    ('reference', 'prediction', 'strict', 'flexible', 'correct'),
    [
        ('18', '18', True, True, True),
        ('18', ' $18.00. ', True, True, True),
        ('1250', '#### 1,250', True, True, True),
        ('18', 'She has 9, so 9 * 2 = 18.\n#### 18', True, True, True),
        ('18', 'The answer is $18. (Not 20.)', True, True, True),
        ('18', 'The answer is 17. No: the final answer is 18', True, True, True),
        ('18', 'so she makes 18 dollars', False, True, True),
        ('18', '#### 17\nor 18', False, True, False),
        ('18', '####', False, False, False),
        ('18', '', False, False, False),
        ('18', 'eighteen', True, True, True),
        ('18', 'nineteen', False, False, False),
        ('18', '18.0001', False, False, False),
        ('-3', '-3', True, True, True),
        ('-3', '3', False, False, False),
        ('1/3', '0.33333333', True, True, True),
        ('1/3', '0.333', False, False, False),
        ('0.5', '1/2', True, True, True),
        ('3244047.1', '3244047.0999999996', True, True, True),
        ('50', '50%', True, True, True),
        ('1000', 'a total of 1,000 coins, i.e. 1,000', False, True, True),
        ('5', '9' * 10000, False, False, False),
    ],
)
def test_numeric(reference, prediction, strict, flexible, correct):
    outcome = scoring.numeric(example(reference), prediction)
    assert (outcome.details['strict'], outcome.details['flexible']) == (strict, flexible)
    assert outcome.correct is correct


@pytest.mark.parametrize(('table', 'is_right', 'limit'), [(RIGHT, True, 0.01), (WRONG, False, 0.0)])
def test_numeric_agrees_with_a_person(table, is_right, limit):
    assert len(GOLDS) == 200 and len(RIGHT) >= 60 and len(WRONG) >= 30
    texts = [(gold, say(gold)) for say in table.values() for gold in GOLDS]
    said = [(gold, text) for gold, text in texts if text is not None]
    misjudged = [
        (gold.reference, text)
        for gold, text in said
        if scoring.numeric(example(gold.reference), text).correct is not is_right
    ]
    assert len(misjudged) <= limit * len(said), misjudged[:20]


def test_numeric_reference_has_to_be_a_number():
    with pytest.raises(InputError, match="i: reference 'many' is no number"):
        scoring.numeric(example('many'), '3')


@pytest.mark.parametrize(
    ('prediction', 'chosen'), [('(B) a bear', 'B'), ('an owl.', 'D'), ('ABCD', None)]
)
def test_letter(prediction, chosen):
    outcome = scoring.letter(example('B', **CHOICES), prediction)
    assert outcome.details == {'letter': chosen} and outcome.correct is (chosen == 'B')


def test_exact():
    assert scoring.exact(example('m1 m2'), ' m1  m2\n').correct
    assert not scoring.exact(example('m1 m2'), 'm1 m2 m3').correct
    assert not scoring.exact(example(''), '').correct


def test_answer_span_ignores_white_space():
    item = example(ADD, **CODE)
    assert scoring.answer_span(item, ADD.replace('    ', '\t') + '\nprint(1)')
    assert scoring.answer_span(item, 'return a + b')
    assert not scoring.answer_span(item, 'return b + a') and not scoring.answer_span(item, '')


def test_code_without_permission_is_the_proxy():
    right_but_other = 'def add(a, b):\n    return b + a'
    outcomes = scoring.score_batch('code', [example(ADD, **CODE)] * 2, [ADD, right_but_other])
    assert [o.correct for o in outcomes] == [True, False]
    assert outcomes[0].details == {'by': 'proxy', 'proxy': True}


def test_code_in_the_sandbox():
    plus = {**CODE, 'plus': 'assert add([1], [2]) == [1, 2]'}
    items = [example(ADD, **CODE), example(ADD, **CODE), example(ADD, **plus), example(ADD, **plus)]
    predictions = [
        '```python\ndef add(a, b):\n    return b + a\n```',
        'def add(a, b):\n    return a',
        ADD,
        'def add(a, b):\n    return int(a) + int(b)',
    ]
    outcomes = scoring.score_batch('code', items, predictions, allow_code_execution=True)
    assert [o.correct for o in outcomes] == [True, False, True, False]
    assert outcomes[0].details == {
        'by': 'sandbox', 'proxy': False, 'passed_base': True, 'error': None,
    }  # fmt: skip
    assert outcomes[1].details['error'].startswith('assertion')
    assert outcomes[3].details['passed_base'] and not outcomes[3].details['passed_plus']


def test_what_only_the_setup_of_the_tests_needs_is_kept():
    reference = 'class Node:\n    v = 1\n\ndef get(n):\n    return n.v\n'
    item = example(reference, setup='root = Node()', base=['assert get(root) == 1'])
    for allowed in (False, True):
        (outcome,) = scoring.score_batch('code', [item], [reference], allow_code_execution=allowed)
        assert outcome.correct


def test_tests_see_the_imports_and_the_names_of_the_reference():
    reference = 'import sys\nSIZE = 4\n\ndef sum(a):\n    return sys.getsizeof(a)\n'
    item = example(reference, setup='import math', base=['assert sum(1) == sys.getsizeof(1)'])
    program = scoring.program(item, 'def sum(a):\n    return 28')
    assert program.names == ('SIZE', 'sum') and program.prelude == 'import math'
    (outcome,) = scoring.score_batch('code', [item], [reference], allow_code_execution=True)
    assert outcome.correct


@pytest.mark.parametrize('scorer', list(scoring.SCORERS))
def test_a_reference_scores_one_and_nothing_scores_zero(scorer):
    item = {
        'numeric': example('1/3'),
        'letter': example('C', **CHOICES),
        'exact': example('c4 c5'),
        'regex': example('c4 c5', pattern=r'c\d c\d'),
        'code': example(ADD, **CODE),
        'style': example('THE CAT WAS HERE.', style='upper'),
    }[scorer]
    for allowed in (False, True):
        outcomes = scoring.score_batch(scorer, [item, item], [item.reference, ''], allowed)
        assert [outcome.correct for outcome in outcomes] == [True, False]


def test_unknown_scorer():
    with pytest.raises(InputError, match="unknown scorer 'bleu': expected one of numeric"):
        scoring.score('bleu', example('1'), '1')


def test_lengths_have_to_agree():
    with pytest.raises(ValueError):
        scoring.score_batch('exact', [example('1')], [])


def test_an_expression_that_would_never_be_done_is_no_match(monkeypatch):
    monkeypatch.setattr(scoring, '_SECONDS', 0.05)
    hostile = example('x', pattern=r'(?:a|aa)+$')
    assert scoring.matches(hostile, 'aaa').correct
    start = time.monotonic()
    assert not scoring.matches(hostile, 'a' * 60 + '!').correct
    assert time.monotonic() - start < 10  # without a limit it would be days
