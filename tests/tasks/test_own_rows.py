"""Rows of the user's own: every form becomes an example whose own answer is right."""

import pytest

from lorajax.errors import InputError
from lorajax.tasks import own_rows, scoring, task_file


def read(row, scorer='exact', **spec):
    """The example of a row under some fields of a task file."""
    whole = dict.fromkeys(task_file.FIELDS) | spec
    return own_rows.read_row(row, 'mine/test/0', 'rows.jsonl, row 1', spec=whole, scorer=scorer)


def test_prompt_and_completion():
    example = read({'prompt': 'Say hi', 'completion': 'hi there'})
    assert (example.prompt, example.answer, example.reference) == ('Say hi', 'hi there', 'hi there')
    assert scoring.exact(example, ' hi  there\n').correct
    assert not scoring.exact(example, 'Hi there').correct
    assert scoring.exact(read({'prompt': 'p', 'completion': 'Hi'}, ignore_case=True), 'hI').correct


def test_messages_keep_what_was_said_before():
    say = [('system', 'Be brief.'), ('user', 'a'), ('assistant', 'b'), ('user', 'c'),
           ('assistant', 'd')]  # fmt: skip
    example = read({'messages': [{'role': role, 'content': text} for role, text in say]})
    assert (example.prompt, example.answer) == ('c', 'd')
    assert [message['content'] for message in example.context] == ['Be brief.', 'a', 'b']
    assert type(example).from_json('x', example.to_json()) == example


def test_templates_are_those_of_lm_evaluation_harness():
    row = {'q': 'Two and two?', 'a': '4', 'options': {'text': ['3', '4'], 'label': ['X', 'Y']}}
    example = read(row, doc_to_text='Question: {{q}}\nAnswer:', doc_to_target='a')
    assert (example.prompt, example.answer) == ('Question: Two and two?\nAnswer:', '4')
    chosen = read(row, 'letter', doc_to_text='q', doc_to_choice='{{options.text}}',
                  doc_to_target='{{options.label.index("Y")}}')  # fmt: skip
    assert chosen.meta['choices'][chosen.meta['labels'].index(chosen.reference)] == '4'
    listed = read(row, 'letter', doc_to_text='{{q}}\nA. 3\nB. 4', doc_to_choice=['A', 'B'],
                  doc_to_target=1)  # fmt: skip
    assert (listed.prompt, listed.reference) == ('Two and two?\nA. 3\nB. 4', 'B')
    assert scoring.letter(listed, 'B').correct and not scoring.letter(listed, 'A').correct


@pytest.mark.parametrize('answer', [1, 'B', 'blue', '1'])
def test_the_right_choice_is_named_by_index_letter_or_text(answer):
    example = read({'question': 'Sky?', 'choices': ['red', 'blue'], 'answer': answer}, 'letter')
    assert scoring.letter(example, 'blue').correct and not scoring.letter(example, 'red').correct


def test_numbers_are_found_in_answers_and_by_an_expression():
    example = read({'prompt': 'p', 'completion': 'So 3 + 4 = 7.\n#### 7'}, 'numeric')
    assert example.reference == '7' and scoring.numeric(example, 'It is 7.0').correct
    marked = read({'prompt': 'p', 'completion': 'R=7 of 9'}, 'numeric', regex_pattern=r'R=(\d+)')
    assert marked.reference == '7'
    assert scoring.numeric(marked, 'R=7 of 12').correct
    assert not scoring.numeric(marked, '7').correct


def test_an_expression_reads_the_answer_or_is_the_answer():
    example = read({'prompt': 'p', 'completion': 'x <b>Paris</b>'}, regex_pattern='<b>(.*?)</b>')
    assert example.reference == 'Paris'
    assert scoring.exact(example, '<b>Rome</b>, no: <b> Paris </b>').correct
    assert not scoring.exact(example, 'Paris').correct
    example = read({'prompt': 'p', 'completion': 'in Paris', 'pattern': '(?i)paris'}, 'regex')
    assert scoring.matches(example, 'PARIS, of course').correct
    assert not scoring.matches(example, 'Rome').correct


def test_a_program_has_its_asserts():
    row = {'prompt': 'Write f.', 'completion': '```python\ndef f():\n    return 1\n```',
           'tests': ['assert f() == 1']}  # fmt: skip
    example = read(row, 'code')
    program = scoring.program(example, example.answer)
    assert program.code.strip() == example.reference.strip() and program.names == ('f',)
    assert 'assert f() == 1' in program.tests[0][1]


@pytest.mark.parametrize(
    ('row', 'scorer', 'spec', 'words'),
    [
        ({'prompt': 'p'}, 'exact', {}, 'expected prompt and completion'),
        ({'prompt': 'p', 'completion': 'c'}, 'exact', {'doc_to_text': 'prompt'}, 'doc_to_target'),
        ({'p': 'p'}, 'exact', {'doc_to_text': '{{q}}', 'doc_to_target': 'p'}, "'q' is undefined"),
        ({'prompt': 'p', 'completion': 'none'}, 'numeric', {}, 'has no number'),
        ({'prompt': 'p', 'completion': 'c'}, 'code', {}, 'tests is null'),
        ({'prompt': 'p', 'completion': 'c'}, 'regex', {}, 'pattern is null'),
        ({'prompt': 'p', 'completion': 'c', 'pattern': '('}, 'regex', {}, "pattern '('"),
        ({'question': 'q', 'choices': ['a'], 'answer': 0}, 'letter', {}, 'has 1 choices'),
        ({'question': 'q', 'choices': 'ab', 'answer': 0}, 'letter', {}, "choices are 'ab'"),
        ({'question': 'q', 'choices': ['a', 'b'], 'answer': 2}, 'letter', {}, 'the answer is 2'),
        ({'choices': ['a', 'b'], 'answer': 2}, 'letter', {}, 'has no question'),
    ],
)  # fmt: skip
def test_what_a_row_lacks_is_said_in_one_line(row, scorer, spec, words):
    with pytest.raises(InputError) as error:
        read(row, scorer, **spec)
    assert str(error.value).startswith('rows.jsonl, row 1: ') and words in str(error.value)
    assert '\n' not in str(error.value)
