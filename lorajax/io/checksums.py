"""SHA-256 of the files of a run, in the format of `sha256sum`.

A directory that is written as a whole lists its files in `SHA256SUMS`; a file that stands alone
has its sum beside it, in `NAME.sha256`. `sha256sum -c` checks both. A bit that flips later, a
file that is cut short or exchanged is noticed before anything is computed from it.
"""

import hashlib
import os
import pathlib
import re
from collections.abc import Iterable, Mapping

from lorajax.errors import InputError
from lorajax.io.atomic import write_text
from lorajax.io.reading import PathLike, open_file, read_bytes, shorten

SUMS_FILE = 'SHA256SUMS'
SUM_SUFFIX = '.sha256'
_MAX_BYTES = 10_000_000  # of a list of sums; far above any directory of ours
_ESCAPES = {'\\\\': '\\', '\\n': '\n', '\\r': '\r'}
_LINE = re.compile(r'(\\?)([0-9a-f]{64}) [ *](.+)')


def file_sum(path: PathLike) -> str:
    """Returns the SHA-256 of a file's bytes, 64 hex digits.

    Raises:
      InputError: naming the path, if it is no readable regular file.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()  # type: ignore[arg-type]


def write_sums(directory: PathLike, names: Iterable[str] | None = None) -> None:
    """Writes `SHA256SUMS` of a directory's files, sorted by name.

    To be called on the temporary directory of `atomic_directory`, after all else is written.

    Args:
      directory: where the files are.
      names: which, relative to it; by default all that lie below it.
    """
    directory = pathlib.Path(directory)
    if names is None:
        names = (
            path.relative_to(directory).as_posix()
            for path in directory.rglob('*')
            if path.is_file() and path != directory / SUMS_FILE
        )
    sums = {name: file_sum(directory / name) for name in sorted(names)}
    write_text(directory / SUMS_FILE, format_sums(sums))


def check_sums(directory: PathLike) -> None:
    """Checks every file that `SHA256SUMS` lists; does nothing where a directory has no such list.

    Raises:
      InputError: naming the file, if a listed one is missing or differs, and if the list itself
        is malformed or names files outside the directory.
    """
    directory = pathlib.Path(directory)
    if os.path.lexists(directory / SUMS_FILE):
        _check(directory, directory / SUMS_FILE)


def write_sum(path: PathLike) -> None:
    """Writes the sum of a file beside it, as `NAME.sha256`.

    A file that is replaced has its old sum removed first, by `remove_sum`: a run that is killed
    in between then leaves a file without a sum, never a good file with a wrong one.
    """
    path = pathlib.Path(path)
    write_text(_beside(path), format_sums({path.name: file_sum(path)}))


def remove_sum(path: PathLike) -> None:
    """Removes the sum beside a file, if there is one."""
    _beside(pathlib.Path(path)).unlink(missing_ok=True)


def check_sum(path: PathLike) -> None:
    """Checks a file against the sum beside it; does nothing where there is none.

    Raises:
      InputError: naming the file, if it is missing or differs, and if `NAME.sha256` is malformed
        or names another file.
    """
    path = pathlib.Path(path)
    listed = _beside(path)
    if os.path.lexists(listed):
        _check(path.parent, listed, only=path.name)


def _beside(path: pathlib.Path) -> pathlib.Path:
    """Returns where the sum of a single file stands."""
    return path.with_name(path.name + SUM_SUFFIX)


def format_sums(sums: Mapping[str, str]) -> str:
    """Returns the text of a list of sums by name, with line breaks escaped as coreutils does."""
    lines = []
    for name, digest in sums.items():
        escaped = name.replace('\\', '\\\\').replace('\n', '\\n').replace('\r', '\\r')
        lines.append(f'{"" if escaped == name else chr(92)}{digest}  {escaped}\n')
    return ''.join(lines)


def _decode(path: pathlib.Path) -> dict[str, str]:
    """Returns the sums of a list by name."""
    sums: dict[str, str] = {}
    try:
        lines = read_bytes(path, _MAX_BYTES).decode().split('\n')
    except UnicodeDecodeError:
        raise InputError(f'{path}: is not UTF-8 text, expected lines of SHA-256 and name') from None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise InputError(f'{path}:{number}: {shorten(line)!r} is no line of SHA-256 and name')
        name = match[3]
        if match[1]:
            name = re.sub(r'\\.', lambda escape: _ESCAPES.get(escape[0], escape[0]), name)
        if name in sums:
            raise InputError(f'{path}:{number}: {shorten(name)!r} occurs twice')
        sums[name] = match[2]
    return sums


def _check(directory: pathlib.Path, listed: pathlib.Path, only: str | None = None) -> None:
    """Checks the files of a list; `only` is the one name that it may hold."""
    sums = _decode(listed)
    if only is not None and set(sums) != {only}:
        names = ', '.join(map(repr, sums)) or 'no file'
        raise InputError(f'{listed}: holds the sum of {shorten(names)}, expected {only!r}')
    for name, expected in sums.items():
        parts = pathlib.PurePosixPath(name).parts
        if name.startswith('/') or '..' in parts or '\0' in name:
            raise InputError(f'{listed}: names {shorten(name)!r}, expected a file below it')
        found = file_sum(directory / name)
        if found != expected:
            raise InputError(
                f'{directory / name}: corrupt: its SHA-256 is {found[:16]}..., {listed.name} says '
                f'{expected[:16]}... (remove {listed.name} if you changed the file yourself)'
            )
