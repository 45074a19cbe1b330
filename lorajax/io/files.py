"""Writes that are whole or absent, and JSON.

Everything is written beside its destination, flushed to disk and renamed into place, so
a run that is killed leaves either the old file or the new one.
"""

import contextlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from lorajax.errors import InputError
from lorajax.io.reading import PathLike

_TEMPORARY = '.partial-'


def _fsync(path: pathlib.Path) -> None:
    """Flushes a file or directory to stable storage."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_name(path: pathlib.Path) -> pathlib.Path:
    """A sibling of `path` that no finished file can have."""
    return path.with_name(f'{_TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}')


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path; renames it to `path` if the block succeeds.

    Args:
      path: the file that shall appear; missing parent directories are made.

    Yields:
      The path to write to. After the block it is flushed and renamed, or removed if the
      block raised.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    try:
        yield temporary
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary directory; renames it to `path` if the block succeeds.

    A directory that is already at `path` is replaced as a whole.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob('*')):
            if file.is_file():
                _fsync(file)
        if path.exists():
            old = _temporary_name(path)
            os.rename(path, old)
            os.rename(temporary, path)
            shutil.rmtree(old)
        else:
            os.rename(temporary, path)
        _fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_partial(directory: PathLike) -> None:
    """Removes what killed runs left behind below `directory`."""
    for path in sorted(pathlib.Path(directory).rglob(f'{_TEMPORARY}*')):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: PathLike, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_json(path: PathLike, value: Any) -> None:
    """Writes indented JSON; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + '\n')


def write_jsonl(path: PathLike, rows: Iterable[Any]) -> None:
    """Writes one JSON value a line."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
    write_text(path, ''.join(line + '\n' for line in lines))


def read_json(path: PathLike) -> Any:
    """Reads a JSON file; raises `InputError` naming the file if it is absent or malformed."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise InputError(f'{path}: no such file') from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: not valid JSON ({error})') from None


def read_jsonl(path: PathLike) -> list[Any]:
    """Reads one JSON value a line; raises `InputError` naming file and line."""
    return [value for _, value in read_numbered_jsonl(path)]


def read_numbered_jsonl(path: PathLike) -> list[tuple[int, Any]]:
    """Reads one JSON value a line, each with its line's number; as `read_jsonl`."""
    rows = []
    try:
        with open(path, encoding='utf-8', newline='\n') as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        rows.append((number, json.loads(line)))
                    except json.JSONDecodeError as error:
                        raise InputError(
                            f'{path}:{number}: not valid JSON ({error.msg}, column {error.pos + 1})'
                        ) from None
    except FileNotFoundError:
        raise InputError(f'{path}: no such file') from None
    except IsADirectoryError:
        raise InputError(f'{path}: is a directory, expected a file of JSON lines') from None
    except UnicodeDecodeError as error:
        raise InputError(f'{path}: not UTF-8 text ({error})') from None
    return rows
