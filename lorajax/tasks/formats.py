"""Rows of each data set, in the hub's schema, turned into examples.

Every function takes (row, item, protocol), where item is 'data set/split/index', and returns
an `Example`, or None for a row that does not belong to the task. Prompts are short: the
question, then one line that says what the answer looks like.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lorajax.errors import InputError
from lorajax.tasks import final_answer, number_parsing
from lorajax.tasks.number_parsing import clean, tokens
from lorajax.tasks.overlap import text_id
from lorajax.tasks.task import Example

Row = Mapping[str, Any]
Format = Callable[[Row, str, str], Example | None]

LETTERS = 'ABCDEFGHIJ'

_ASK_NUMBER = {
    'direct': 'Answer with the number alone.',
    'cot': "Solve it step by step, then give the result on a last line '#### <number>'.",
}
_ASK_LETTER = 'Answer with the letter alone.'
_ASK_CODE = 'Answer with a Python code block alone.'


def _maths(
    question: str, solution: str, number: str, item: str, protocol: str, ids: tuple[str, ...] = ()
) -> Example:
    """One maths example; `solution` may be empty where the data set has none."""
    question = ' '.join(question.split())
    worked = f'{solution}\n#### {number}'.lstrip()
    return Example(
        item=item,
        prompt=f'{question}\n{_ASK_NUMBER[protocol]}',
        answer=worked if protocol == 'cot' else number,
        reference=number,
        problem_ids=(*ids, text_id(question)),
        question=question,
    )


def _number(value: Any, item: str) -> str:
    """Writes a row's result; a result that is no number is the file's fault."""
    try:
        return number_parsing.write(value)
    except ValueError as error:
        raise InputError(f'{item}: {error}') from None


def gsm8k(row: Row, item: str, protocol: str) -> Example:
    """openai/gsm8k: the solution ends in '#### n' and carries <<calculator>> notes."""
    solution, mark, number = row['answer'].rpartition('####')
    if not mark:
        raise InputError(f"{item}: field answer has no '#### <number>'")
    solution = re.sub(r'<<.*?>>', '', solution).strip()
    return _maths(row['question'], solution, _number(number, item), item, protocol)


def gsm_hard(row: Row, item: str, protocol: str) -> Example:
    """reasoning-machines/gsm-hard: GSM8K test problems with larger numbers.

    Its rows are not in the order of GSM8K; the problem is known by the original question,
    which the docstring of `code` quotes (1316 of 1319 word for word; one is empty there and
    unchanged in `input`, two differ in a word and share runs of 13). There is a program in
    place of a worked solution, so both protocols train on the number alone.
    """
    quoted = re.search(r'"""(.*?)"""', row['code'], re.DOTALL)
    original = quoted[1].strip() if quoted else ''
    return _maths(
        row['input'],
        '',
        _number(row['target'], item),
        item,
        protocol,
        ids=(text_id(original or row['input']),),
    )


def multiarith(row: Row, item: str, protocol: str) -> Example:
    """ChilleD/MultiArith: no worked solutions."""
    return _maths(row['question'], '', _number(row['final_ans'], item), item, protocol)


def mawps(row: Row, item: str, protocol: str) -> Example:
    """MAWPS of LLM-Adapters: tokenised text, an equation X=... for a solution."""
    question = re.sub(r' (?=[.,?!;:%])', '', row['original_text'])
    return _maths(question, row['equation'], _number(row['ans'], item), item, protocol)


def math_easy(row: Row, item: str, protocol: str, *, subject: str) -> Example | None:
    """MATH (Hendrycks et al. 2021), levels 1 and 2 of one subject, numeric answers only."""
    if row['type'] != subject or row['level'] not in ('Level 1', 'Level 2'):
        return None
    number = boxed_number(row['solution'])
    if number is None:
        return None
    return _maths(row['problem'], row['solution'].strip(), number, item, protocol)


def boxed_number(solution: str) -> str | None:
    r"""Returns the number in the last \boxed{} of a LaTeX solution, None if it is no number.

    A unit may follow and `x =` precede it; intervals, lists, mixed units, factorials, numbers
    in other bases, recurring decimals and spelled numbers are refused.
    """
    boxes = final_answer.boxed(solution)
    if not boxes:
        return None
    pieces = [t for t in tokens(clean(boxes[-1][1])) if t.kind != 'space']
    if [token.kind for token in pieces[:2]] == ['word', 'equals']:
        pieces = pieces[2:]
    if pieces and pieces[-1].text == '.':
        pieces.pop()
    if not pieces or not any(map(str.isdigit, pieces[0].text)):
        return None
    number = pieces[0].value
    has_only_a_unit = all(token.kind in ('word', 'break') for token in pieces[1:])
    return str(number) if number is not None and has_only_a_unit else None


def multiple_choice(question: str, texts: list[str], right: int, item: str) -> Example:
    """Returns one multiple-choice example, its choices in an order fixed by its text.

    Args:
      question: what is asked, without the choices.
      texts: 2 to 10 choices.
      right: index of the right one.
      item: name of the item.
    """
    seed = int(text_id(question + '\n'.join(texts)).removeprefix('text/'), 16)
    order = np.random.default_rng(seed).permutation(len(texts))
    letters = LETTERS[: len(texts)]
    choices = [texts[i] for i in order]
    letter = letters[int(np.flatnonzero(order == right)[0])]
    listed = '\n'.join(f'{label}. {text}' for label, text in zip(letters, choices, strict=True))
    return Example(
        item=item,
        prompt=f'{question}\n{listed}\n{_ASK_LETTER}',
        answer=letter,
        reference=letter,
        problem_ids=(text_id(question),),
        meta={'labels': list(letters), 'choices': choices},
        question=question,
    )


def _labelled(question: str, row: Row, item: str) -> Example:
    """A row with choices {'text', 'label'} and answerKey; labels may be A.. or 1.. ."""
    texts, labels = row['choices'].get('text', []), row['choices'].get('label', [])
    if len(texts) != len(labels) or not 2 <= len(texts) <= len(LETTERS):
        raise InputError(f'{item}: field choices needs 2 to {len(LETTERS)} texts and labels')
    if row['answerKey'] not in labels:
        raise InputError(f'{item}: answerKey {row["answerKey"]!r} is none of {", ".join(labels)}')
    return multiple_choice(question, list(texts), labels.index(row['answerKey']), item)


def arc(row: Row, item: str, protocol: str) -> Example:
    """allenai/ai2_arc, ARC-Easy and ARC-Challenge."""
    del protocol  # a letter either way
    return _labelled(row['question'].strip(), row, item)


def openbookqa(row: Row, item: str, protocol: str) -> Example:
    """allenai/openbookqa main: the stem alone, never the fact it was made from."""
    del protocol
    return _labelled(row['question_stem'].strip(), row, item)


def mmlu(row: Row, item: str, protocol: str, *, subject: str) -> Example | None:
    """cais/mmlu all, the rows of one subject; answer is the index of the right choice."""
    del protocol
    if row['subject'] != subject:
        return None
    texts = [str(text) for text in row['choices']]
    if not (2 <= len(texts) <= len(LETTERS) and 0 <= row['answer'] < len(texts)):
        raise InputError(f'{item}: answer {row["answer"]} is no index of {len(texts)} choices')
    return multiple_choice(row['question'].strip(), texts, row['answer'], item)


def _code(
    request: str, code: str, tests: dict[str, Any], item: str, problem: str, question: str
) -> Example:
    """One code example; `tests` is what `lorajax.tasks.scoring` runs."""
    code = code.replace('\r\n', '\n').strip('\n').rstrip()
    return Example(
        item=item,
        prompt=f'{request}\n{_ASK_CODE}',
        answer=f'```python\n{code}\n```',
        reference=code,
        problem_ids=(problem, text_id(question)),
        meta=tests,
        question=question,
    )


def mbpp(row: Row, item: str, protocol: str) -> Example:
    """MBPP full, sanitized and MBPP+, three schemas of one collection (Austin et al. 2021).

    The prompt shows the first assert, which fixes the function's name and its arguments; the
    other tests stay hidden, so that no answer can list them all.
    """
    del protocol
    text = (row['prompt'] if 'prompt' in row else row['text']).strip()
    asserts = [line.replace('\r\n', '\n') for line in row['test_list']]
    if not asserts:
        raise InputError(f'{item}: field test_list is empty')
    setup = '\n'.join([*row.get('test_imports', ()), row.get('test_setup_code', '')])
    tests = {'setup': setup.replace('\r\n', '\n').strip(), 'base': asserts}
    if 'test' in row:
        tests['plus'] = row['test']
    request = f'{text}\nIt has to satisfy: {asserts[0].strip()}'
    return _code(request, row['code'], tests, item, f'mbpp/{row["task_id"]}', text)


def humaneval(row: Row, item: str, protocol: str) -> Example:
    """openai_humaneval: the whole function, its given head included, is the answer.

    What the head defines before the function is given to the tests as it is: three of them call
    such a helper, and an answer that defines it anew would choose its own test.
    """
    del protocol
    head = row['prompt'].strip('\n')
    given, _, _ = head.rpartition(f'def {row["entry_point"]}(')
    code = f'{head}\n{row["canonical_solution"]}'
    program = f'{row["test"]}\ncheck({row["entry_point"]})\n'
    return _code(
        f'Complete this function.\n```python\n{head}\n```',
        code,
        {'setup': given.strip(), 'base': [program]},
        item,
        f'humaneval/{row["task_id"]}',
        head,
    )
