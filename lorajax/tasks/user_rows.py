"""Training rows of the user's own, in the two forms that Hugging Face TRL reads."""

import pathlib
from typing import Any

from lorajax import workdir
from lorajax.errors import InputError
from lorajax.tasks.task import Example


def read(path: pathlib.Path) -> tuple[Example, ...]:
    """Reads {"prompt", "completion"} or {"messages": [user, assistant]} rows.

    Args:
      path: JSON lines.

    Raises:
      InputError: naming file and line, for an empty file, another form, or a conversation
        that is not one user message and one answer.
    """
    rows = workdir.read_jsonl(path)
    if not rows:
        raise InputError(f'{path}: is empty, expected rows with prompt and completion or messages')
    examples = []
    for number, row in enumerate(rows, 1):
        prompt, answer = _turn(row, f'{path}: row {number}')
        examples.append(
            Example(item=f'{path.name}/{number}', prompt=prompt, answer=answer, reference=answer)
        )
    return tuple(examples)


def _turn(row: Any, where: str) -> tuple[str, str]:
    """Returns the user's and the assistant's message of one row."""
    if isinstance(row, dict) and 'messages' in row:
        messages = row['messages']
        roles = [m.get('role') if isinstance(m, dict) else None for m in messages]
        if roles != ['user', 'assistant']:
            raise InputError(f'{where}: roles are {roles}, expected one user and one assistant')
        pair = tuple(message.get('content') for message in messages)
    elif isinstance(row, dict) and {'prompt', 'completion'} <= row.keys():
        pair = row['prompt'], row['completion']
    else:
        found = ', '.join(row) if isinstance(row, dict) else type(row).__name__
        raise InputError(f'{where}: has {found}, expected prompt and completion, or messages')
    if not all(isinstance(text, str) and text for text in pair):
        raise InputError(f'{where}: expected two texts that are not empty')
    return pair[0], pair[1]
