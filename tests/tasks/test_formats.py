"""Rows to examples, format by format."""

import pytest

from lorajax.errors import InputError
from lorajax.tasks import formats, overlap
from tests.tasks import small_data

ROW = {
    'question': 'Ida buys 3 hats for $4  each.\nWhat does she pay? ',
    'answer': 'She pays 3 * 4 = <<3*4=12>>12 dollars.\n#### 12',
}


def test_gsm8k():
    direct = formats.gsm8k(ROW, 'gsm8k/train/7', 'direct')
    assert direct.question == 'Ida buys 3 hats for $4 each. What does she pay?'
    assert direct.prompt == f'{direct.question}\nAnswer with the number alone.'
    assert direct.answer == direct.reference == '12' and direct.item == 'gsm8k/train/7'
    worked = formats.gsm8k(ROW, 'gsm8k/train/7', 'cot')
    assert worked.answer == 'She pays 3 * 4 = 12 dollars.\n#### 12'
    assert '####' in worked.prompt and worked.problem_ids == direct.problem_ids


@pytest.mark.parametrize('answer', ['12', 'It is\n#### many'])
def test_gsm8k_without_a_number_names_the_row(answer):
    with pytest.raises(InputError, match='gsm8k/train/7'):
        formats.gsm8k(ROW | {'answer': answer}, 'gsm8k/train/7', 'direct')


def test_gsm_hard_is_the_problem_that_its_program_quotes():
    original, *_ = small_data.gsm8k(0, 1)
    (row,) = small_data.gsm_hard([original])
    easy = formats.gsm8k(original, 'gsm8k/test/5', 'direct')
    hard = formats.gsm_hard(row, 'gsm_hard/train/0', 'direct')  # at another place in its file
    assert easy.question != hard.question and easy.reference != hard.reference
    assert set(easy.problem_ids) & set(hard.problem_ids)
    unquoted = formats.gsm_hard(row | {'code': 'x = 1'}, 'gsm_hard/train/0', 'direct')
    assert unquoted.problem_ids == (overlap.text_id(row['input']),) * 2


def test_multiarith_and_mawps():
    product = formats.multiarith({'question': ' How much? ', 'final_ans': '7'}, 'm/0', 'cot')
    assert product.question == 'How much?' and product.answer == '#### 7'
    row = {'original_text': 'Add 1 , 2 .', 'equation': 'X=(1.0+2.0)', 'ans': 3.0}
    total = formats.mawps(row, 'm/0', 'cot')
    assert total.question == 'Add 1, 2.' and total.answer == 'X=(1.0+2.0)\n#### 3'


@pytest.mark.parametrize(
    ('solution', 'number'),
    [
        (r'So $\boxed{12}$.', '12'),
        (r'\boxed{1} or rather \boxed{-3}', '-3'),
        (r'$\boxed{\frac{3}{4}}$', '3/4'),
        (r'$\boxed{\dfrac12}$', '1/2'),
        (r'$\boxed{-\frac{1}{2}}$', '-1/2'),
        (r'$\boxed{12,\!500}$', '12500'),
        (r'$\boxed{\$4.50}$', '9/2'),
        (r'$\boxed{30^\circ}$ and $\boxed{25\%}$', '25'),
        (r'$\boxed{6\text{ cm}}$', '6'),
        (r'$\boxed{2\frac{1}{4}}$', '9/4'),
        (r'$\boxed{6\frac15}$', '31/5'),
        (r'$\boxed{x = 5}$', '5'),
        (r'$\boxed{2^8}$', '256'),
        (r'$\boxed{\$36\text{ per day}}$', '36'),
        (r'$\boxed{6\text{ cm}^2}$', '6'),
        (r'$\boxed{\frac{9}{4}\text{ inches}}$', '9/4'),
        (r'$\boxed{19 \text{ and }43}$', None),
        (r'$\boxed{2\text{ or }3}$', None),
        (r'$\boxed{1\text{ hour } 20\text{ min}}$', None),
        (r'$\boxed{101_2}$', None),
        (r'$\boxed{11:30}$', None),
        (r'$\boxed{0.\overline{3}}$', None),
        (r'$\boxed{5!}$', None),
        (r'$\boxed{5\pi}$', None),
        (r'$\boxed{x \le 5}$', None),
        (r'$\boxed{[0,1)}$', None),
        (r'$\boxed{\text{two}}$', None),
        (r'$\boxed{\text{(B)}}$', None),
        (r'$\boxed{x+1}$', None),
        (r'$\boxed{(1,2)}$', None),
        (r'$\boxed{\sqrt{2}}$', None),
        ('no box', None),
        (r'\boxed{unclosed', None),
    ],
)
def test_boxed_number(solution, number):
    assert formats.boxed_number(solution) == number


def test_math_takes_easy_numeric_rows_of_its_subject():
    row = {'problem': 'P?', 'level': 'Level 2', 'type': 'Algebra', 'solution': r'\boxed{5}'}
    take = formats.math_easy
    assert take(row, 'i', 'direct', subject='Algebra').reference == '5'
    assert take(row, 'i', 'cot', subject='Algebra').answer == '\\boxed{5}\n#### 5'
    assert take(row, 'i', 'direct', subject='Geometry') is None
    assert take(row | {'level': 'Level 3'}, 'i', 'direct', subject='Algebra') is None
    assert take(row | {'solution': r'\boxed{x}'}, 'i', 'direct', subject='Algebra') is None


def test_choices_are_shuffled_by_their_text_and_lettered():
    rows = small_data.arc(0, 40)
    examples = [formats.arc(row, f'arc/{i}', 'direct') for i, row in enumerate(rows)]
    for row, example in zip(rows, examples, strict=True):
        right = row['choices']['text'][row['choices']['label'].index(row['answerKey'])]
        assert example.meta['choices'][example.meta['labels'].index(example.reference)] == right
        assert f'\n{example.reference}. {right}\n' in example.prompt
    assert {example.reference for example in examples} == set('ABCD')
    again = formats.arc(rows[3], 'elsewhere/9', 'cot')
    assert again.prompt == examples[3].prompt  # whatever the place, run or protocol


@pytest.mark.parametrize(
    'change',
    [
        {'answerKey': 'E'},
        {'choices': {'text': ['x'], 'label': ['A']}},
        {'choices': {'text': ['x', 'y'], 'label': ['A']}},
        {'choices': {}},
    ],
)
def test_choices_that_make_no_sense_name_the_row(change):
    with pytest.raises(InputError, match='arc/3: '):
        formats.arc(small_data.arc(0, 1)[0] | change, 'arc/3', 'direct')


def test_mmlu_takes_its_subject():
    row = {'question': 'Q?', 'subject': 'astronomy', 'choices': ['u', 'v'], 'answer': 1}
    example = formats.mmlu(row, 'mmlu/0', 'direct', subject='astronomy')
    assert example.meta['choices'][example.meta['labels'].index(example.reference)] == 'v'
    assert formats.mmlu(row, 'mmlu/0', 'direct', subject='virology') is None
    with pytest.raises(InputError, match='mmlu/0: answer 2'):
        formats.mmlu(row | {'answer': 2}, 'mmlu/0', 'direct', subject='astronomy')


def test_mbpp_schemas_are_one_problem():
    (old,) = small_data.mbpp(17, 1)
    (new,) = small_data.mbpp_sanitized([old])
    (plus,) = small_data.mbppplus([old])
    examples = [formats.mbpp(row, 'i', 'direct') for row in (old, new, plus)]
    assert all(example.problem_ids[0] == 'mbpp/17' for example in examples)
    first = examples[0]
    assert 'assert add_17([1, 2]) == [18, 19]' in first.prompt  # name and arguments
    assert 'add_17([])' not in first.prompt  # the other tests stay hidden
    assert first.answer == f'```python\n{first.reference}\n```' and '\r' not in first.answer
    assert len(first.meta['base']) == 3 and 'plus' not in first.meta
    assert examples[2].meta['plus'] == plus['test']
    with pytest.raises(InputError, match='test_list is empty'):
        formats.mbpp(old | {'test_list': []}, 'i', 'direct')


def test_humaneval_answers_with_the_whole_function():
    example = formats.humaneval(small_data.humaneval(2)[1], 'humaneval/test/1', 'direct')
    assert example.reference.startswith('def blend_1(a, b):') and '\n    return a' in example.answer
    assert example.meta['base'][0].endswith('check(blend_1)\n')
    row = small_data.humaneval(2)[1]
    helped = row | {'prompt': f'import math\n\n\ndef poly(x):\n    return x\n\n\n{row["prompt"]}'}
    example = formats.humaneval(helped, 'humaneval/test/1', 'direct')
    assert example.meta['setup'] == 'import math\n\n\ndef poly(x):\n    return x'
