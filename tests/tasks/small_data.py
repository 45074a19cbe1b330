"""A small data directory in the hub's schemas, every row invented here."""

import gzip
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

SUBJECTS = (
    'high_school_physics',
    'high_school_biology',
    'elementary_mathematics',
    'conceptual_physics',
    'high_school_chemistry',
    'astronomy',
)
MATH_SUBJECTS = ('Counting & Probability', 'Algebra', 'Prealgebra')

_NAMES = ('Oda', 'Piet', 'Runa', 'Silas', 'Tilde', 'Ugo')
_THINGS = ('kites', 'lanterns', 'buttons', 'pinecones', 'marbles')


def gsm8k(start: int, count: int) -> list[Row]:
    """Two-step sums: `start` keeps splits apart."""
    rows = []
    for i in range(start, start + count):
        name, thing = _NAMES[i % 6], _THINGS[i % 5]
        bags, each, lost = i % 7 + 2, i + 3, i % 3 + 1
        total = bags * each
        rows.append(
            {
                'question': f'{name} fills {bags} bags with {each} {thing} and loses {lost}. '
                f'How many {thing} remain?',
                'answer': f'{name} has {bags} * {each} = <<{bags}*{each}={total}>>{total} {thing}.'
                f'\nAfter the loss {total} - {lost} = <<{total}-{lost}={total - lost}>>'
                f'{total - lost} remain.\n#### {total - lost:,}',
            }
        )
    return rows


def gsm_hard(originals: list[Row]) -> list[Row]:
    """The same problems backwards, with a larger loss; the program quotes the original."""
    rows = []
    for i, row in reversed(list(enumerate(originals))):
        lost = 700_000 + 13 * i
        head, _, tail = row['question'].partition('loses ')
        before = int(row['answer'].rpartition('#### ')[2].replace(',', '')) + int(tail[0])
        rows.append(
            {
                'input': f'{head}loses {lost}{tail[1:]}',
                'code': f'\ndef solution():\n    """{row["question"]}"""\n'
                f'    result = {before} - {lost}\n    return result\n',
                'target': float(before - lost),
            }
        )
    return rows


def multiarith(start: int, count: int) -> list[Row]:
    """One-step products."""
    return [
        {
            'question': f' {_NAMES[i % 6]} stacks {i + 2} rows of {i % 4 + 3} {_THINGS[i % 5]}. '
            'How many in all? ',
            'final_ans': str((i + 2) * (i % 4 + 3)),
        }
        for i in range(start, start + count)
    ]


def mawps(start: int, count: int) -> list[Row]:
    """One-step quotients, tokenised."""
    return [
        {
            'id': i,
            'original_text': f'{_NAMES[i % 6]} cuts {i + 1} metres of rope into 4 parts . '
            'How long is one part ?',
            'equation': f'X=({i + 1}.0/4.0)',
            'ans': (i + 1) / 4 if i % 2 else str((i + 1) / 4),
        }
        for i in range(start, start + count)
    ]


def competition_math(start: int, count: int) -> list[Row]:
    """Easy, hard and non-numeric rows of three subjects."""
    rows = []
    for subject in MATH_SUBJECTS:
        for i in range(start, start + count):
            rows.append(
                {
                    'problem': f'{subject} {i}: what is ${i} + {i + 1}$ halved?',
                    'level': f'Level {i % 3 + 1}',
                    'type': subject,
                    'solution': f'The sum is {2 * i + 1}, so \\boxed{{\\frac{{{2 * i + 1}}}{{2}}}}.'
                    if i % 4
                    else 'It depends: \\boxed{x+1}.',
                }
            )
    return rows


def mbpp(start: int, count: int) -> list[Row]:
    """Functions of one list; task ids count from `start`."""
    rows = []
    for i in range(start, start + count):
        rows.append(
            {
                'task_id': i,
                'text': f'Write a function that adds {i} to every number of a list.',
                'code': f'def add_{i}(numbers):\r\n    return [n + {i} for n in numbers]',
                'test_list': [
                    f'assert add_{i}([1, 2]) == [{i + 1}, {i + 2}]',
                    f'assert add_{i}([]) == []',
                    f'assert add_{i}([-{i}]) == [0]',
                ],
                'test_setup_code': '',
                'challenge_test_list': [],
            }
        )
    return rows


def mbpp_sanitized(rows: list[Row]) -> list[Row]:
    """The same problems in the newer schema, their texts reworded."""
    return [
        {
            'source_file': 'invented',
            'task_id': row['task_id'],
            'prompt': row['text'].replace('every number', 'each entry'),
            'code': row['code'].replace('\r\n', '\n'),
            'test_imports': [],
            'test_list': row['test_list'],
        }
        for row in rows
    ]


def mbppplus(rows: list[Row]) -> list[Row]:
    """Sanitized problems with a program of more tests."""
    return [
        {
            **row,
            'test': 'import numpy as np\n\ninputs = [[[5, 6]], [[]], [list(range(50))]]\n'
            f'results = [[n + {row["task_id"]} for n in i[0]] for i in inputs]\n'
            'for inp, exp in zip(inputs, results):\n'
            f'    assert np.array_equal(add_{row["task_id"]}(*inp), exp)\n',
        }
        for row in mbpp_sanitized(rows)
    ]


def humaneval(count: int) -> list[Row]:
    """Functions of two numbers."""
    return [
        {
            'task_id': f'HumanEval/{i}',
            'prompt': f'\ndef blend_{i}(a, b):\n    """ Returns a plus {i} times b. """\n',
            'canonical_solution': f'    return a + {i} * b\n',
            'test': f'\ndef check(candidate):\n    assert candidate(1, 2) == {1 + 2 * i}\n',
            'entry_point': f'blend_{i}',
        }
        for i in range(count)
    ]


def _options(i: int) -> tuple[list[str], int]:
    """Four choices and the index of the right one."""
    options = [str(10 * i + k) for k in (1, 3, 7, 9)]
    return options, i % 4


def arc(start: int, count: int) -> list[Row]:
    """Questions with lettered choices, every fifth with numbers for labels."""
    rows = []
    for i in range(start, start + count):
        texts, right = _options(i)
        labels = ['1', '2', '3', '4'] if i % 5 == 0 else ['A', 'B', 'C', 'D']
        rows.append(
            {
                'id': f'invented_{i}',
                'question': f'A probe of type {i} counts moons. How many does it find?',
                'choices': {'text': texts, 'label': labels},
                'answerKey': labels[right],
            }
        )
    return rows


def openbookqa(start: int, count: int) -> list[Row]:
    """The same with other field names."""
    return [
        {
            'id': row['id'],
            'question_stem': f'A seed of kind {row["id"]} grows best at a depth of',
            'choices': row['choices'],
            'answerKey': row['answerKey'],
        }
        for row in arc(start, count)
    ]


def mmlu(start: int, count: int) -> list[Row]:
    """Some rows of each subject that is a task, and of one that is none."""
    rows = []
    for subject in (*SUBJECTS, 'virology'):
        for i in range(start, start + count):
            texts, right = _options(i)
            rows.append(
                {
                    'question': f'In {subject}, item {i} equals which number?',
                    'subject': subject,
                    'choices': texts,
                    'answer': right,
                }
            )
    return rows


def write(directory: str | os.PathLike[str]) -> None:
    """Writes every data set of the registry below `directory`, 24 rows or more a split."""
    test = gsm8k(1000, 24)
    problems = {
        'prompt': mbpp(1, 4),
        'test': mbpp(11, 30),
        'validation': mbpp(511, 6),
        'train': mbpp(601, 30),
    }
    plus = [row for rows in problems.values() for row in rows[::2]]
    files = {
        'gsm8k/train': gsm8k(0, 48),
        'gsm8k/test': test,
        'gsm_hard/train': gsm_hard(test),
        'multiarith/train': multiarith(0, 24),
        'multiarith/test': multiarith(100, 12),
        'mawps/train': mawps(0, 24),
        'mawps/validation': mawps(50, 8),
        'mawps/test': mawps(100, 8),
        'competition_math/train': competition_math(0, 24),
        'competition_math/test': competition_math(100, 12),
        **{f'mbpp/{split}': rows for split, rows in problems.items()},
        **{f'mbpp_sanitized/{split}': mbpp_sanitized(rows) for split, rows in problems.items()},
        'mbppplus/test': mbppplus(plus),
        'humaneval/test': humaneval(24),
        'mmlu/dev': mmlu(0, 5),
        'mmlu/validation': mmlu(10, 10),
        'mmlu/test': mmlu(30, 20),
        'openbookqa/train': openbookqa(0, 48),
        'openbookqa/validation': openbookqa(100, 8),
        'openbookqa/test': openbookqa(200, 24),
    }
    for name, start in (('arc_easy', 5000), ('arc_challenge', 0)):
        files |= {
            f'{name}/train': arc(start, 48),
            f'{name}/validation': arc(start + 100, 8),
            f'{name}/test': arc(start + 200, 24),
        }
    for name, rows in files.items():
        text = ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
        path = pathlib.Path(directory) / f'{name}.jsonl'
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == 'humaneval/test':  # one packed file, as some copies are
            path.with_name(f'{path.name}.gz').write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text, encoding='utf-8')
