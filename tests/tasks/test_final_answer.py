"""Which number of a text is meant: place by place. The large set is `maths_phrasings`."""

import time
from fractions import Fraction

import pytest

from lorajax.tasks import final_answer
from lorajax.tasks.final_answer import Reading

NONE = Reading(True)


def at(value):
    return Reading(True, Fraction(value))


@pytest.mark.parametrize(
    ('text', 'reading'),
    [
        ('18', at(18)),
        ('- 7', at(-7)),
        ('twelve', at(12)),
        ('', final_answer.NOTHING),
        ('She has 18.', final_answer.NOTHING),
        ('The answer is 16 + 2 = 18.', at(18)),
        ('#### 16 + 2 = 18', at(18)),
        ('#### 18 = 16 + 2', at(18)),
        ('#### 16 + 2', NONE),
        (r'We get $\boxed{4}$, since 12 + 5 = 17.', at(4)),
        (r'\boxed{4}, once \boxed{5}', at(5)),
        (r'\boxed{\text{none}}', final_answer.NOTHING),
        (r'\boxed{5, 6}', NONE),
        (r'\boxed{\frac{\sqrt{16}}{3}}', at('4/3')),
        (r'\boxed{5', final_answer.NOTHING),
        ('The correct answer is 4. Note that 7 is wrong.', at(4)),
        ('Answer: 4\n\nNote: rounded to 2 digits.', at(4)),
        ('**Answer**: 4 cm', at(4)),
        ('Answer:\n\n4', at(4)),
        ('Answer - 4', at(4)),
        ('## Final answer\n4', at(4)),
        ('The answer is not 7 but 8.', at(8)),
        ('The answer is not 7. It is 8.', at(8)),
        ('The answer is not 7.', NONE),
        ('The answer cannot be 7.', NONE),
        ('The answer is 5 or 6.', NONE),
        ('Answer: 5, 6', NONE),
        ('The answer is 5 to 6', NONE),
        ('The answer is 1/2 or 0.5', at('1/2')),
        ('Answer: x = ±2', NONE),
        ('Answer: x = 2 or x = -2', NONE),
        ('The answer is 5 hours and 30 minutes', NONE),
        ('The answer is 18 dollars for 3 days', at(18)),
        ('The answer is that she has 18 and 3', final_answer.NOTHING),
        ('#### 01/02/2024', NONE),
        ('The answer is 17. No: the final answer is 18', at(18)),
        ('x > 5', final_answer.NOTHING),
    ],
)
def test_strict(text, reading):
    assert final_answer.strict(text) == reading


@pytest.mark.parametrize(
    ('text', 'reading'),
    [
        ('18', at(18)),
        ('so she makes 18 dollars', at(18)),
        ('', final_answer.NOTHING),
        ('none', final_answer.NOTHING),
        ('a total of 1,000 coins, i.e. 1,000', at(1000)),
        ('It is 8, not 7.', at(8)),
        ('not 7', final_answer.NOTHING),
        ('7 is wrong. It is 7.', at(7)),
        ('It is 7. No, 7 is wrong.', NONE),
        ('5 or 6', NONE),
        ('5, 6', NONE),
        ('5-3', NONE),
        ('2 + 3', NONE),
        ('x = ±2', NONE),
        ('more than 5', NONE),
        ('5 < x', NONE),
        ('x = 2 or x = -2', NONE),
        ('x = 5s - 4, so we get x = 96', at(96)),
        ('They sell 10 + 8 = 18 apples in 3 days.', at(18)),
        ('9 eggs at 2 dollars.\n\nLet me know about question 3.', at(2)),
        ('twelve of them', at(12)),
        ('In all **18** for the 2 of them.', at(18)),
        ('Six of the 18.', at(18)),
        ('at 5:30', NONE),
        ('- Cost: 3\n- Total: 18', at(18)),
        ('so 409 500 - 400 000 = 9500 more than that', at(9500)),
        ('The people who had not voted by 16:00 are 3000-2000 = 1000.', at(1000)),
    ],
)
def test_flexible(text, reading):
    assert final_answer.flexible(text) == reading


def test_boxes_nest_and_close():
    text = r'a \boxed{1} \fbox{\frac{1}{2}} \boxed{x \boxed{3}} } \boxed{open'
    places = final_answer.boxed(text)
    assert [content for _, content in places] == ['1', r'\frac{1}{2}', r'x \boxed{3}', '3']
    assert [text[start] for start, _ in places] == ['\\'] * 4


@pytest.mark.parametrize(
    'piece',
    [
        '9',
        '-',
        '\\frac',
        '\\frac{',
        '{',
        '**',
        '1 000 ',
        '\\boxed{',
        'answer ',
        'answer: 5 or ',
        '1,',
        '1 ',
        'not ',
        '(',
        '1e5',
        '1/',
        '1.',
        '3 x ',
        '\\text{',
        '\n',
        '\ud800',
        'one ',
        'one and ',
        '3\\times 10^',
        "a'",
        '#',
        '=',
        '1=',
        ' ',
        '1_',
        'the answer to x ',
        '\\sqrt{1}',
        '½',
        '\\boxed{1}',
    ],
)
def test_long_texts_take_linear_time(piece):
    """100 kB of one piece, as a model stuck in a loop writes; the worst took 1 s of a busy core."""
    text = (piece * 100_000)[:100_000]
    start = time.process_time()
    final_answer.strict(text)
    final_answer.flexible(text)
    assert time.process_time() - start < 6
