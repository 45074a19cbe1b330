"""Rows of the user's own, turned into examples as a task file says.

Without templates a row is read by its own fields: see `lorajax.tasks.task_file`.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.sandbox
import regex

from lorajax.errors import InputError
from lorajax.io import fields
from lorajax.tasks import final_answer, formats, scoring, sft_rows
from lorajax.tasks.code_extraction import extract_code
from lorajax.tasks.overlap import normalise, text_id
from lorajax.tasks.task import Example

Row = Mapping[str, Any]

ENVIRONMENT = jinja2.sandbox.SandboxedEnvironment(
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True
)
_LETTERS = list(formats.LETTERS)


def read_row(row: Row, item: str, where: str, *, spec: Mapping[str, Any], scorer: str) -> Example:
    """Returns the example of one row.

    Args:
      row: a JSON object.
      item: name of the item.
      where: names the row in errors.
      spec: fields of the task file, None for those that it lacks.
      scorer: a name of `scoring.SCORERS`.

    Raises:
      InputError: naming the row, if it lacks something that the scorer needs.
    """
    if scorer == 'letter':
        return _multiple_choice(row, item, where, spec)
    prompt, answer, context = _texts(row, where, spec)
    asked = spec['doc_to_decontamination_query']
    question = _render(asked, row, where) if asked else str(row.get('question') or '')
    meta: dict[str, Any] = {}
    if spec['regex_pattern'] is not None:
        meta['extract'] = spec['regex_pattern']
    if spec['ignore_case']:
        meta['ignore_case'] = True
    reference = row.get('reference')
    reference = answer if reference is None else str(reference)
    if scorer == 'regex':
        check_pattern(row.get('pattern'), f'{where}: pattern')
        meta['pattern'] = reference = row['pattern']
    elif scorer == 'code':
        meta |= _tests(row, where)
        reference = extract_code(answer, ())
    elif scorer == 'numeric':
        reference = _number(reference, meta, where)
    elif 'extract' in meta and row.get('reference') is None:
        reference = scoring.extract(Example(item, prompt, answer, '', meta=meta), answer)
    if not (normalise(prompt) or prompt.strip()):
        raise InputError(f'{where}: its prompt is empty')
    return Example(
        item=item,
        prompt=prompt,
        answer=answer,
        reference=reference,
        problem_ids=(text_id(question or prompt),),
        meta=meta,
        question=question,
        context=tuple(context),
    )


def _texts(row: Row, where: str, spec: Mapping[str, Any]) -> tuple[str, str, Sequence[Any]]:
    """Returns prompt, answer and the messages before the prompt."""
    if spec['doc_to_text'] is not None:
        if spec['doc_to_target'] is None:
            raise InputError(f'{where}: the task file has doc_to_text, expected doc_to_target too')
        prompt = _render(spec['doc_to_text'], row, where)
        answer = _render(str(spec['doc_to_target']), row, where)
        return prompt, answer.strip(), ()
    conversation = sft_rows.conversation(row, where)
    *context, asked, answered = conversation.messages
    if asked['role'] != 'user':
        raise InputError(f'{where}: the message before the last is of {asked["role"]}')
    return asked['content'], answered['content'], tuple(context)


def _render(template: str, row: Row, where: str) -> str:
    """Returns a column of a row, or what a template makes of it."""
    if template in row:
        return str(row[template])
    try:
        return ENVIRONMENT.from_string(template).render(**row)
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f'{where}: {fields.show(template)}: {error}') from None


def _number(reference: str, meta: Mapping[str, Any], where: str) -> str:
    """Returns the number in a reference answer."""
    text = scoring.extract(Example('', '', '', '', meta=meta), reference)
    strict, flexible = final_answer.strict(text), final_answer.flexible(text)
    value = strict.value if strict.is_there else flexible.value
    if value is None:
        raise InputError(f'{where}: {fields.show(reference)} has no number, as numeric asks for')
    return str(value)


def _tests(row: Row, where: str) -> dict[str, Any]:
    """Returns what the sandbox runs behind a program."""
    tests = row.get('tests')
    listed = [tests] if isinstance(tests, str) else tests
    if not listed or not fields.list_of(fields.TEXT).fits(listed):
        raise InputError(f'{where}: tests is {fields.show(tests)}, expected a list of asserts')
    setup = fields.require(where, row, 'setup', fields.TEXT, '')
    return {'setup': setup, 'base': list(listed)}


def _multiple_choice(row: Row, item: str, where: str, spec: Mapping[str, Any]) -> Example:
    """Returns the example of a row with choices."""
    labels, texts = _choices(row, where, spec['doc_to_choice'])
    if not 2 <= len(texts) <= len(_LETTERS):
        raise InputError(f'{where}: has {len(texts)} choices, expected 2 to {len(_LETTERS)}')
    if spec['doc_to_text'] is not None:
        question = _render(spec['doc_to_text'], row, where)
    else:
        question = next((row[n] for n in ('question', 'prompt') if isinstance(row.get(n), str)), '')
        if not question:
            raise InputError(f'{where}: has no question, expected a text')
    right = _right(_target(row, where, spec['doc_to_target']), labels, texts, where)
    if texts != _LETTERS[: len(texts)]:
        return formats.multiple_choice(question.strip(), texts, right, item)
    # The prompt lists the choices itself, as many tasks of lm-evaluation-harness do.
    asked = spec['doc_to_decontamination_query']
    return Example(
        item=item,
        prompt=question,
        answer=texts[right],
        reference=texts[right],
        problem_ids=(text_id(question),),
        meta={'labels': texts, 'choices': texts},
        question=_render(asked, row, where) if asked else '',
    )


def _choices(row: Row, where: str, template: Any) -> tuple[list[str], list[str]]:
    """Returns the labels by which a row names its choices, and the choices."""
    if isinstance(template, list):
        texts = [_render(text, row, where) for text in template]
        return _LETTERS[: len(texts)], texts
    value: Any = row.get(template or 'choices')
    if template and value is None:
        try:
            value = ast.literal_eval(_render(template, row, where))
        except (ValueError, SyntaxError):
            value = None
    labels: Any = None
    if isinstance(value, dict):
        value, labels = value.get('text'), value.get('label')
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        found = f'choices are {fields.show(value)}'
        if value is None and not template:
            found = f'has {", ".join(row)}, and no choices'
        raise InputError(f'{where}: {found}, expected a list of texts; doc_to_choice names another')
    if isinstance(labels, list) and len(labels) == len(value):
        return [str(label) for label in labels], value
    return _LETTERS[: len(value)], value


def _target(row: Row, where: str, template: Any) -> Any:
    """Returns what a row says about the right choice."""
    if template is None:
        return next((row[n] for n in ('answer', 'answerKey', 'label') if n in row), None)
    if isinstance(template, int):
        return template
    return row[template] if template in row else _render(template, row, where).strip()


def _right(answer: Any, labels: Sequence[str], texts: Sequence[str], where: str) -> int:
    """Returns the index of the right choice, which a row names by index, label or text."""
    if isinstance(answer, str) and answer.strip() in texts:
        return texts.index(answer.strip())
    if isinstance(answer, str) and answer.strip() in labels:
        return labels.index(answer.strip())
    if isinstance(answer, str) and answer.strip().isdecimal():
        answer = int(answer)
    if type(answer) is int and 0 <= answer < len(texts):
        return answer
    raise InputError(
        f'{where}: the answer is {fields.show(answer)}, expected an index from 0, a letter or a '
        f'text of {len(texts)} choices'
    )


def check_pattern(pattern: Any, where: str) -> None:
    """Refuses what is no regular expression; `where` says what it is."""
    if not isinstance(pattern, str):
        raise InputError(f'{where} is {fields.show(pattern)}, expected a regular expression')
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise InputError(f'{where} {fields.show(pattern)}: {error}') from None
