"""Which choice a text picks."""

import pytest

from lorajax.tasks import letters

LABELS = ['A', 'B', 'C', 'D']
CHOICES = ['a wolf', 'a bear', 'A fox.', 'an owl']


@pytest.mark.parametrize(
    ('prediction', 'chosen'),
    [
        ('B', 'B'),
        ('B.', 'B'),
        ('(B) a bear', 'B'),
        ('**C**', 'C'),
        ('B: a bear, not A', 'B'),
        ('The answer is (B).', 'B'),
        ('Answer: D', 'D'),
        ('A is wrong, so the correct answer is B', 'B'),
        ('A bear lives in the wood, so B', 'B'),
        ('I think D fits best', 'D'),
        ('a fox', 'C'),
        ('an owl.', 'D'),
        ("The answer is A's", None),
        ('E', None),
        ('bear', None),
        ('', None),
        ('ABCD', None),
        ('b', 'B'),
        ('(b)', 'B'),
        ('answer: b', 'B'),
        ('A and B are wrong, so the answer must be D.', 'D'),
        ('The answer is not A, it is C.', 'C'),
        ('A: no. B: no. C: yes.', 'C'),
        ('The answer is not B', None),
        ('Option C is wrong; I pick D', 'D'),
        ('C++ is a language', None),
        ('It is a bear.', 'B'),
        ('The animal is a bear, so the answer is B.', 'B'),
        ('The correct option is b.', 'B'),
        ('b) a bear', 'B'),
        ('\\boxed{B}', 'B'),
        ('$\\boxed{\\text{B}}$', 'B'),
        ('A or B', None),
        ('The answer is A or B.', None),
        ('A, B and C are wrong.', 'D'),
        ('Not A. Not B. Not D.', 'C'),
        ('D is correct because A is too small.', 'D'),
        ('Vitamin C is good', None),
        ('I would choose option (C).', 'C'),
        ('Answer: (d) an owl', 'D'),
        ('The answer is B, not C.', 'B'),
        ('B and not C', 'B'),
        ('B rather than A', 'B'),
        ('I cannot say.', None),
        ('#### B', 'B'),
        ('The answer is B because a wolf is too small.', 'B'),
        ('B. a bear\n\nExplanation: A is wrong.', 'B'),
        ('We can eliminate A and C. Between B and D, D is better.', 'D'),
        ('The bear', None),
        ('A', 'A'),
        ('A wolf', 'A'),
        ('A wolf.', 'A'),
        ('The answer is a bear.', 'B'),
        ('It is not a bear but an owl.', 'D'),
        ('a', 'A'),
        ('Both A and B are correct.', None),
        ('A) no\nB) no\nC) no\nD) yes', 'D'),
        ('A. wrong B. right', None),
        ('Final answer: **B**', 'B'),
        ('The best answer is: B) a bear', 'B'),
        ("It's B!", 'B'),
        ("The answer isn't A; it's B.", 'B'),
        ('A is not the answer. B is not the answer. C is not the answer.', 'D'),
        ('C# is a language', None),
        ('Plan B failed', None),
        ('I am unsure, maybe A or D', None),
        ('option B', 'B'),
        ('Option B is the one that fits.', 'B'),
        ('Neither A nor C nor D.', 'B'),
        ('A wolf is small. B is a bear, which is large. So B.', 'B'),
        ('I believe it is D, since a wolf cannot fly.', 'D'),
        ('A and D do not fit, and C is false.', 'B'),
    ],
)
def test_chosen(prediction, chosen):
    assert letters.chosen(prediction, LABELS, CHOICES) == chosen


RIGHT = (
    '{L}',
    '{l}',
    '({L})',
    '({l})',
    '{L}.',
    '{L})',
    '{l})',
    '[{L}]',
    '**{L}**',
    '`{L}`',
    '{L}: {text}',
    '{L}. {text}',
    '({l}) {text}',
    '{text}',
    '{text}.',
    'The answer is {L}.',
    'The answer is {l}.',
    'The answer is ({L}) {text}.',
    'The correct answer is option {L}.',
    'Answer: {L}',
    'answer: {l}',
    'ANSWER: {L}',
    '**Answer: {L}**',
    'Final answer: {L}',
    '\\boxed{{L}}',
    '$\\boxed{\\text{{L}}}$',
    'I choose {L}.',
    'I would go with {L}.',
    'Option {L}',
    'Option {L} is correct.',
    'option {l}',
    'It must be {L}, because the others do not fit.',
    'So the answer is {L}',
    '#### {L}',
    'The answer is not {M}, it is {L}.',
    'Not {M} but {L}.',
    '{M} is wrong, so {L}.',
    '{L}, not {M}.',
    'The answer is {L} rather than {M}.',
    "It isn't {M}. It's {L}.",
    'It is {text}, so {L}.',
    'All others are wrong: {L} is right.',
    '{M}: no. {L}: yes.',
    'I pick {L}; {M} is false.',
    'Let us think. {M} is too small. Therefore the answer is {L}.',
    'The best choice is {L}.',
    'The answer is {text}.',
    'Answer: {text}',
    '{L} is the correct choice.',
    'My choice is {L}!',
)
WRONG = (
    '',
    '{M}',
    'The answer is {M}.',
    'The answer is not {L}.',
    'not {L}',
    "It isn't {L}.",
    '{L} or {M}',
    'The answer is {L} or {M}.',
    'Option {L} is wrong; I pick {M}.',
    '{L} is wrong.',
    '{M}, not {L}.',
    '{L}: no. {M}: yes.',
    'Both {L} and {M} are correct.',
    'I cannot say.',
    '{L}{M}',
    "{L}'s",
    '{L}++ is old.',
    '{L}# is a language',
    'Eliminate {L}.',
    'We can rule out {L}, so {M}.',
    'vitamin {L} helps',
    'The answer is {M} rather than {L}.',
    'Neither {L} nor {M}.',
    '{other}',
    'It is {other}, so {M}.',
)


@pytest.mark.parametrize('index', range(4))
@pytest.mark.parametrize(('templates', 'is_right'), [(RIGHT, True), (WRONG, False)])
def test_agrees_with_a_person_on_every_choice(templates, is_right, index):
    label, other = LABELS[index], LABELS[index - 1]
    misjudged = []
    for template in templates:
        text = (
            template.replace('{L}', label)
            .replace('{l}', label.lower())
            .replace('{M}', other)
            .replace('{text}', CHOICES[index])
            .replace('{other}', CHOICES[index - 1])
        )
        if (letters.chosen(text, LABELS, CHOICES) == label) is not is_right:
            misjudged.append(text)
    assert misjudged == []


def test_other_numbers_of_choices():
    two = (['A', 'B'], ['yes', 'no'])
    assert letters.chosen('not A', *two) == 'B' and letters.chosen('No.', *two) == 'B'
    ten = (list('ABCDEFGHIJ'), [f'{10 * i}' for i in range(10)])
    assert letters.chosen('I think the answer is I.', *ten) == 'I'
    assert letters.chosen('I think so', *ten) is None and letters.chosen('It is 40.', *ten) == 'E'


def test_choices_within_one_another():
    choices = ['bear', 'polar bear', 'not a bear', '3']
    assert letters.chosen('It is the polar bear.', LABELS, choices) == 'B'
    assert letters.chosen('The answer is C, not a bear.', LABELS, choices) == 'C'
    assert letters.chosen('There are 3.5 of them.', LABELS, choices) is None


@pytest.mark.parametrize(
    'piece', ['A ', 'A, ', '(', 'not A ', 'the answer is ', 'a wolf ', '\ud800', '⟦A⟧']
)
def test_long_texts_are_read(piece):
    assert letters.chosen((piece * 100_000)[:100_000], LABELS, CHOICES) in (None, *LABELS)


def test_a_letter_is_the_label_where_choices_are_letters_too():
    choices = ['C', 'A', 'H', 'O']
    assert [letters.chosen(label, LABELS, choices) for label in LABELS] == LABELS
    assert letters.chosen('H', LABELS, choices) == 'C'
