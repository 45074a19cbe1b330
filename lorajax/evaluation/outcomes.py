"""Outcomes: what one adapter answered to one item, as rows that are stored and read back.

A row is {"task", "method", "item", "correct", "prediction", "reference", "nll", "details"}: the
names of task, method (or adapter) and item, the verdict, two texts, the loss of the reference
answer in nats per token (null where it is no number) and what the scorer saw. Texts come from
models and from programs that models wrote, so they may hold anything.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lorajax import io
from lorajax.errors import InputError

Row = dict[str, Any]
Table = dict[str, dict[str, Row]]  # {method: {item: row}}, items in the order of base

_SURROGATE = re.compile('[\ud800-\udfff]')  # in a Python string every one of them is alone


def storable(value: Any) -> Any:
    """Returns a JSON value that any UTF-8 JSON file can hold.

    Lone surrogates become U+FFFD, the replacement character; NaN and infinity become None.

    Args:
      value: dicts, lists, texts, numbers, truth values and None, nested.
    """
    if isinstance(value, str):
        return _SURROGATE.sub('\ufffd', value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {storable(name): storable(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [storable(entry) for entry in value]
    return value


def write(path: io.PathLike, rows: Iterable[Row]) -> None:
    """Writes rows as JSON lines with their sum beside them, NAME.sha256."""
    io.remove_sum(path)
    io.write_jsonl(path, rows)
    io.write_sum(path)


def read(path: io.PathLike, task: str) -> list[Row]:
    """Reads the rows of one task, checked against their sum and one by one.

    Raises:
      InputError: naming file and row, if the file is missing or differs from its sum, or a row
        lacks a field that scoring needs.
    """
    io.check_sum(path)
    rows = io.read_jsonl(path)
    for number, row in enumerate(rows, 1):
        _check_row(f'{path}: row {number}', row, task)
    return rows


def read_table(path: io.PathLike, task: str) -> Table:
    """Reads the main outcomes of one task, as `read` and `make_table`."""
    return make_table(read(path, task), str(path))


def make_table(rows: Iterable[Row], label: str) -> Table:
    """Groups the rows of one task by method, which all answered the same items.

    Args:
      rows: of one task, in any order.
      label: where they are from, for messages.

    Raises:
      InputError: naming the row, if a method answers an item twice, base or oracle is missing, or
        two methods answered different items.
    """
    table: Table = {}
    for number, row in enumerate(rows, 1):
        answers = table.setdefault(row['method'], {})
        if row['item'] in answers:
            raise InputError(
                f'{label}: row {number} is a second answer of {io.shorten(row["method"])} to '
                f'{io.show(row["item"])}'
            )
        answers[row['item']] = row
    for name in ('base', 'oracle'):
        if name not in table:
            raise InputError(f'{label}: no rows of {name}, expected base and oracle')
    items = list(table['base'])
    for method, answers in table.items():
        if answers.keys() != set(items):
            odd = min(answers.keys() ^ set(items))
            raise InputError(
                f'{label}: {io.shorten(method)} and base answer different items ({len(answers)} '
                f'and {len(items)}; {io.show(odd)} is only in one), expected the same'
            )
        table[method] = {item: answers[item] for item in items}
    return table


def _check_row(place: str, row: Any, task: str) -> None:
    """Refuses a row without the fields that scoring needs."""
    if not isinstance(row, dict):
        raise InputError(f'{place} is not a JSON object')
    for name in ('task', 'method', 'item', 'correct'):
        if name not in row:
            raise InputError(f'{place} has no {name!r}')
    if row['task'] != task:
        raise InputError(f'{place} is of task {io.show(row["task"])}, expected {task!r}')
    for name in ('method', 'item'):
        if not isinstance(row[name], str):
            raise InputError(f'{place} has {name} = {io.shorten(repr(row[name]))}, expected a name')
    if not isinstance(row['correct'], bool | int) or row['correct'] not in (0, 1):
        value = io.shorten(repr(row['correct']))
        raise InputError(f'{place} has correct = {value}, expected true or false')
    nll = row.get('nll')
    if isinstance(nll, bool) or not isinstance(nll, int | float | None):
        raise InputError(f'{place} has nll = {io.shorten(repr(nll))}, expected a number or null')
    if not isinstance(row.get('details', {}), dict):
        value = io.shorten(repr(row['details']))
        raise InputError(f'{place} has details = {value}, expected a JSON object')
