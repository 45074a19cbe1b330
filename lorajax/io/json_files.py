"""JSON from anywhere, read so that nothing in it can hurt, and JSON of ours, written whole.

What Python's own reader lets through ends elsewhere in a traceback, or in a number that is none:
lists nested until the stack overflows, integers of 5,000 digits, NaN and Infinity, one name twice
in an object, halves of surrogate pairs, which no file takes. Here each is one line with the path.
"""

import functools
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from lorajax.errors import InputError
from lorajax.io.atomic import write_text
from lorajax.io.reading import PathLike, open_file, read_bytes, shorten

MAX_BYTES = 1 << 28  # of a file, and of a line of a .jsonl; tokenizer.json of 256 k tokens: 33 MB
MAX_DEPTH = 64  # of lists and objects in each other
MAX_DIGITS = 300  # of an integer, so that each is below the largest float64

_SURROGATE = re.compile('[\ud800-\udfff]')
_ESCAPED_SURROGATE = re.compile(r'\\u[dD][89a-fA-F]')

Surrogates = Literal['refuse', 'replace']


def parse_json(data: bytes, where: str, surrogates: Surrogates = 'refuse') -> Any:
    """Returns the value that a JSON text stands for.

    Args:
      data: UTF-8, a byte order mark before it is skipped.
      where: named in errors: a path, or path and line.
      surrogates: what halves of surrogate pairs in strings (`"\\ud800"`) do: 'refuse', or
        'replace' them by U+FFFD.

    Returns:
      Nested dicts and lists of str, finite float, int of at most `MAX_DIGITS` digits, bool, None,
      at most `MAX_DEPTH` deep.

    Raises:
      InputError: one line that begins with `where`.
    """
    try:
        text = data.decode('utf-8-sig')
        value = _decoder().decode(text)
    except UnicodeDecodeError as error:
        raise InputError(f'{where}: not UTF-8 text (byte {error.start})') from None
    except json.JSONDecodeError as error:
        place = (
            f'line {error.lineno}, column {error.colno}'
            if '\n' in text
            else f'column {error.colno}'
        )
        raise InputError(f'{where}: not valid JSON ({error.msg}, {place})') from None
    except _Refused as error:
        raise InputError(f'{where}: not valid JSON ({error})') from None
    except RecursionError:
        raise InputError(f'{where}: nested more than {MAX_DEPTH} deep') from None
    if _is_deeper(value, MAX_DEPTH):
        raise InputError(f'{where}: nested more than {MAX_DEPTH} deep')
    # A whole surrogate cannot come from UTF-8, only from an escape.
    if _ESCAPED_SURROGATE.search(text):
        value = _mend(value, where, surrogates)
    return value


class _Refused(ValueError):
    """Something in a JSON text that Python's reader would let through."""


@functools.cache
def _decoder() -> json.JSONDecoder:
    """Returns a decoder that checks numbers and names."""
    return json.JSONDecoder(
        object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds an object; a name that occurs twice is an error."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Refused(f'{shorten(name)!r} occurs twice in one object')
            seen.add(name)
    return result


def _integer(digits: str) -> int:
    """Reads an integer that a float64 can hold."""
    if len(digits) > MAX_DIGITS:
        raise _Refused(f'an integer of {len(digits)} digits, expected at most {MAX_DIGITS}')
    return int(digits)


def _float(digits: str) -> float:
    """Reads a number that a float64 can hold."""
    value = float(digits)
    if not math.isfinite(value):
        raise _Refused(f'{shorten(digits, 20)} exceeds float64')
    return value


def _constant(name: str) -> float:
    """Refuses NaN, Infinity and -Infinity, which JSON does not have."""
    raise _Refused(f'{name} is no number of JSON')


def _is_deeper(value: Any, most: int) -> bool:
    """Returns whether lists and objects lie in each other more than `most` deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        if not level:
            return False
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
    return bool(level)


def _mend(value: Any, where: str, surrogates: Surrogates) -> Any:
    """Returns the value with halves of surrogate pairs replaced, or refuses them."""
    if isinstance(value, str):
        if surrogates == 'refuse' and _SURROGATE.search(value):
            raise InputError(f'{where}: half a surrogate pair in {shorten(value)!r}')
        return _SURROGATE.sub('\ufffd', value)
    if isinstance(value, list):
        return [_mend(child, where, surrogates) for child in value]
    if isinstance(value, dict):
        mended = {
            _mend(name, where, surrogates): _mend(child, where, surrogates)
            for name, child in value.items()
        }
        if len(mended) != len(value):
            raise InputError(f'{where}: half a surrogate pair in the names of an object')
        return mended
    return value


def read_json(path: PathLike, max_bytes: int = MAX_BYTES, surrogates: Surrogates = 'refuse') -> Any:
    """Reads a JSON file.

    Args:
      path: the file.
      max_bytes: its largest size.
      surrogates: as for `parse_json`.

    Raises:
      InputError: naming the file, if it cannot be read or is not what `parse_json` takes.
    """
    return parse_json(read_bytes(path, max_bytes), str(path), surrogates)


def read_jsonl(path: PathLike, surrogates: Surrogates = 'refuse') -> list[Any]:
    """Reads one JSON value a line; raises `InputError` naming file and line."""
    return [value for _, value in read_numbered_jsonl(path, surrogates)]


def read_numbered_jsonl(path: PathLike, surrogates: Surrogates = 'refuse') -> list[tuple[int, Any]]:
    """Reads one JSON value a line, each with its line's number, from 1; blank lines are skipped."""
    return [
        (number, parse_json(line.rstrip(b'\r\n'), f'{path}:{number}', surrogates))
        for number, line in _lines(path)
        if line.strip()
    ]


def _lines(path: PathLike) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a file with their numbers."""
    with open_file(path) as file:
        number = 0
        while line := file.readline(MAX_BYTES + 1):
            number += 1
            if len(line) > MAX_BYTES:
                raise InputError(f'{path}:{number}: has more than {MAX_BYTES} bytes')
            yield number, line


def write_json(path: PathLike, value: Any) -> None:
    """Writes indented JSON, whole or not at all.

    Halves of surrogate pairs, which a model's output may hold, become U+FFFD.

    Raises:
      ValueError: for NaN and infinity, since JSON has neither.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + '\n')


def write_jsonl(path: PathLike, rows: Iterable[Any]) -> None:
    """Writes one JSON value a line, as `write_json`."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
    write_text(path, ''.join(line + '\n' for line in lines))
