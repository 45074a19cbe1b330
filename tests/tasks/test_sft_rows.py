"""Users' rows: what each form means, and the line that names a row of none."""

import json

import pytest

from lorajax.errors import InputError
from lorajax.tasks import sft_rows


def message(role, content):
    return {'role': role, 'content': content}


SYSTEM, USER, ANSWER = message('system', 's'), message('user', 'u'), message('assistant', 'a')
MORE = [message('user', 'v'), message('assistant', 'b')]


def read(tmp_path, *rows):
    path = tmp_path / 'rows.jsonl'
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text('\n'.join(lines))
    return sft_rows.read(path)


@pytest.mark.parametrize(
    ('row', 'messages', 'first_target'),
    [
        ({'prompt': 'u', 'completion': 'a'}, [USER, ANSWER], 1),
        ({'messages': [USER, ANSWER]}, [USER, ANSWER], 0),
        ({'messages': [SYSTEM, USER, ANSWER, *MORE]}, [SYSTEM, USER, ANSWER, *MORE], 0),
        ({'prompt': [SYSTEM, USER], 'completion': [ANSWER]}, [SYSTEM, USER, ANSWER], 2),
        ({'prompt': [USER, ANSWER, MORE[0]], 'completion': [MORE[1]]}, [USER, ANSWER, *MORE], 3),
        ({'prompt': [USER], 'completion': [ANSWER, *MORE]}, [USER, ANSWER, *MORE], 1),
        ({'messages': [message('system', ''), USER, ANSWER]},
         [message('system', ''), USER, ANSWER], 0),
        ({'messages': [{**USER, 'name': 'x'}, ANSWER], 'id': 7}, [USER, ANSWER], 0),
    ],
)  # fmt: skip
def test_every_form_becomes_messages(tmp_path, row, messages, first_target):
    (found,) = read(tmp_path, row)
    assert (list(found.messages), found.first_target) == (messages, first_target)


BAD = [
    ({'messages': [USER]}, 'the last message is of user, expected assistant'),
    ({'messages': [SYSTEM]}, 'the last message is of system, expected assistant'),
    ({'messages': [ANSWER]}, 'the first message is of assistant, expected user'),
    ({'messages': [SYSTEM, ANSWER]}, 'the first message is of assistant, expected user'),
    ({'messages': [USER, SYSTEM, ANSWER]},
     'message 1 is of system, expected it first or not at all'),
    ({'messages': [message('tool', 'x'), ANSWER]},
     "messages[0]: role is 'tool', expected one of system, user, assistant"),
    ({'messages': [{'content': 'x'}]},
     'messages[0]: role is null, expected one of system, user, assistant'),
    ({'messages': [message('user', ''), ANSWER]},
     'messages[0]: content of user is empty, expected a text'),
    ({'messages': [USER, message('assistant', '')]},
     'messages[1]: content of assistant is empty, expected a text'),
    ({'messages': [USER, message('assistant', None)]},
     'messages[1]: content is null, expected a text'),
    ({'messages': [message('user', [{'type': 'text', 'text': 'x'}]), ANSWER]},
     'messages[0]: content is a list, expected a text'),
    ({'messages': ['x']}, 'messages[0] is a text, expected an object with role and content'),
    ({'messages': []}, 'messages is empty, expected a list of messages'),
    ({'messages': 'x'}, 'messages is a text, expected a list of messages'),
    ({'prompt': 'x', 'completion': ''},
     'completion[0]: content of assistant is empty, expected a text'),
    ({'prompt': 'x', 'completion': [ANSWER]},
     'prompt is a text and completion a list, expected two texts or two lists of messages'),
    ({'prompt': [USER], 'completion': [USER]}, 'the last message is of user, expected assistant'),
    ({'prompt': 'x'}, 'has prompt; expected prompt and completion, or messages'),
    ({'text': 'x', 'id': 1}, 'has text, id; expected prompt and completion, or messages'),
    ({}, 'has no fields; expected prompt and completion, or messages'),
    ([1], 'has no fields, but a list; expected prompt and completion, or messages'),
    ('"x"', 'has no fields, but a text; expected prompt and completion, or messages'),
    ('{"messages": ', 'not valid JSON (Expecting value, column 14)'),
]  # fmt: skip


@pytest.mark.parametrize(('row', 'line'), BAD)
def test_a_row_of_no_form_is_one_line_with_file_and_line(tmp_path, row, line):
    with pytest.raises(InputError) as error:
        read(tmp_path, {'prompt': 'x', 'completion': 'y'}, '', row, {'prompt': 'x'})
    assert str(error.value) == f'{tmp_path / "rows.jsonl"}:3: {line}'


def test_files_that_hold_no_rows_are_named(tmp_path):
    with pytest.raises(InputError, match='is empty, expected rows with prompt and completion, or'):
        read(tmp_path, '')
    with pytest.raises(InputError, match='no such file'):
        sft_rows.read(tmp_path / 'absent.jsonl')
    with pytest.raises(InputError, match='is a directory, expected a file'):
        sft_rows.read(tmp_path)


@pytest.mark.parametrize(
    'row',
    [
        {'prompt': 'x'}, {'prompt': 'x', 'completion': 'y'}, {'prompt': 'x', 'completion': None},
        {'prompt': [message('user', 'x')]}, {'messages': [message('user', 'x')], 'other': 3},
        {'messages': [message('system', 's'), message('user', 'x'), ANSWER, message('user', 'z')]},
    ],
)  # fmt: skip
def test_prompts_are_what_the_user_says_first(tmp_path, row):
    path = tmp_path / 'prompts.jsonl'
    path.write_text(json.dumps(row) + '\n\n' + json.dumps({'prompt': 'w'}))
    first, second = sft_rows.read_prompts(path)
    assert (first.text, second) == ('x', ('w', ()))
    has_system = 'messages' in row and row['messages'][0]['role'] == 'system'
    assert first.context == ((message('system', 's'),) if has_system else ())


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('', ': is empty, expected rows with a prompt'),
        ('{"prompt": ""}', ':1: prompt[0]: content of user is empty, expected a text'),
        ('{"prompt": 5}', ':1: prompt is a number, expected a text or messages'),
        ('{"prompt": "a"}\n{"completion": "b"}', ':2: has completion; expected prompt, or messages'),  # noqa: E501
        ('{"messages": [{"role": "system", "content": "a"}]}',
         ':1: no message is of user, expected a prompt'),
        ('{"messages": ["a"]}',
         ':1: messages[0] is a text, expected an object with role and content'),
        ('[1]', ':1: has no fields, but a list; expected prompt, or messages'),
    ],
)  # fmt: skip
def test_prompts_of_another_form_are_one_line_with_file_and_line(tmp_path, text, line):
    path = tmp_path / 'prompts.jsonl'
    path.write_text(text)
    with pytest.raises(InputError) as error:
        sft_rows.read_prompts(path)
    assert str(error.value) == f'{path}{line}'
