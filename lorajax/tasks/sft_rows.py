"""Training rows of the user's own, in the forms that Hugging Face TRL reads."""

import pathlib
from typing import Any

from lorajax import io
from lorajax.errors import InputError
from lorajax.tasks.chat import Conversation, Message
from lorajax.tasks.task import Prompt

_ROLES = ('system', 'user', 'assistant')
_FORMS = 'prompt and completion, or messages'


def read(path: pathlib.Path) -> tuple[Conversation, ...]:
    """Reads rows {"messages"} or {"prompt", "completion"}.

    Messages are lists of {"role", "content"}: a system message first or none, then messages of
    user and assistant, the last the assistant's. Of "messages" every assistant's message is
    learned. Prompt and completion are two such lists, of which the completion's assistant
    messages are learned, or two texts. Texts stand for one message of the user and one of the
    assistant, where TRL would leave out the chat template.

    Args:
      path: JSON lines; other fields of a row are not looked at.

    Raises:
      InputError: naming file and line, for an empty file or a row of another form.
    """
    rows = io.read_numbered_jsonl(path)
    if not rows:
        raise InputError(f'{path}: is empty, expected rows with {_FORMS}')
    return tuple(conversation(row, f'{path}:{number}') for number, row in rows)


def read_prompts(path: pathlib.Path) -> list[Prompt]:
    """Reads what the user says first in each row, and the system before.

    Answers, where there are any, are not looked at.

    Args:
      path: JSON lines. Rows are those of `read`, or {"prompt"} alone: a text, or messages.

    Returns:
      One for each row.

    Raises:
      InputError: naming file and line, for an empty file or a row of another form.
    """
    rows = io.read_numbered_jsonl(path)
    if not rows:
        raise InputError(f'{path}: is empty, expected rows with a prompt')
    return [_first_of_user(row, f'{path}:{number}') for number, row in rows]


def _first_of_user(row: Any, where: str) -> Prompt:
    """Returns the first message of the user in a row, with those before it."""
    if isinstance(row, dict) and 'messages' in row:
        messages = _messages(row['messages'], where, 'messages')
    elif isinstance(row, dict) and 'prompt' in row:
        prompt = row['prompt']
        if isinstance(prompt, str):
            prompt = [{'role': 'user', 'content': prompt}]
        elif not isinstance(prompt, list):
            raise InputError(f'{where}: prompt is {_kind(prompt)}, expected a text or messages')
        messages = _messages(prompt, where, 'prompt')
    else:
        names = ', '.join(row) if isinstance(row, dict) else f'no fields, but {_kind(row)}'
        raise InputError(
            f'{where}: has {io.shorten(names) or "no fields"}; expected prompt, or messages'
        )
    roles = [message['role'] for message in messages]
    if 'user' not in roles:
        raise InputError(f'{where}: no message is of user, expected a prompt')
    first = roles.index('user')
    return Prompt(messages[first]['content'], messages[:first])


def conversation(row: Any, where: str) -> Conversation:
    """Returns the messages of one row in a form of `read`.

    Args:
      row: a JSON value.
      where: names it in errors.

    Raises:
      InputError: if it has another form.
    """
    if isinstance(row, dict) and 'messages' in row:
        messages, first_target = _messages(row['messages'], where, 'messages'), 0
    elif isinstance(row, dict) and {'prompt', 'completion'} <= row.keys():
        prompt, completion = row['prompt'], row['completion']
        if isinstance(prompt, str) and isinstance(completion, str):
            prompt = [{'role': 'user', 'content': prompt}]
            completion = [{'role': 'assistant', 'content': completion}]
        elif not (isinstance(prompt, list) and isinstance(completion, list)):
            raise InputError(
                f'{where}: prompt is {_kind(prompt)} and completion {_kind(completion)}, expected '
                'two texts or two lists of messages'
            )
        start = _messages(prompt, where, 'prompt')
        messages = start + _messages(completion, where, 'completion')
        first_target = len(start)
    else:
        found = ', '.join(row) if isinstance(row, dict) else f'no fields, but {_kind(row)}'
        raise InputError(f'{where}: has {io.shorten(found) or "no fields"}; expected {_FORMS}')
    _check_order([message['role'] for message in messages], where)
    return Conversation(where, messages, first_target)


def _messages(value: Any, where: str, field: str) -> tuple[Message, ...]:
    """Checks a list of messages one by one."""
    if not isinstance(value, list) or not value:
        shown = 'empty' if value == [] else _kind(value)
        raise InputError(f'{where}: {field} is {shown}, expected a list of messages')
    for number, message in enumerate(value):
        name = f'{where}: {field}[{number}]'
        if not isinstance(message, dict):
            raise InputError(
                f'{name} is {_kind(message)}, expected an object with role and content'
            )
        role, content = message.get('role'), message.get('content')
        if role not in _ROLES:
            raise InputError(
                f'{name}: role is {io.show(role)}, expected one of {", ".join(_ROLES)}'
            )
        if not isinstance(content, str):
            raise InputError(f'{name}: content is {_kind(content)}, expected a text')
        # An empty system message is how one switches a template's own off.
        if not content and role != 'system':
            raise InputError(f'{name}: content of {role} is empty, expected a text')
    return tuple({'role': m['role'], 'content': m['content']} for m in value)


def _check_order(roles: list[str], where: str) -> None:
    """Refuses conversations from which nothing can be learned, or that no template writes."""
    if 'system' in roles[1:]:
        index = roles.index('system', 1)
        raise InputError(f'{where}: message {index} is of system, expected it first or not at all')
    if roles[-1] != 'assistant':
        raise InputError(f'{where}: the last message is of {roles[-1]}, expected assistant')
    first = next(role for role in roles if role != 'system')
    if first != 'user':
        raise InputError(f'{where}: the first message is of {first}, expected user')


def _kind(value: Any) -> str:
    """Names a JSON value's type as JSON does."""
    names = {dict: 'an object', list: 'a list', str: 'a text', bool: 'a truth value'}
    return 'null' if value is None else names.get(type(value), 'a number')
