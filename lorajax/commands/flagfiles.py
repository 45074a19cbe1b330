"""Flagfiles: by path, or by the name of one that is shipped.

`--flagfile=toy` and `--flagfile=launch/toy.flags` find `launch/toy.flags` of the clone or of the
installed package, wherever the command is typed; a file at the path itself goes first.
"""

import pathlib
import re
from collections.abc import Iterator

from lorajax.errors import ArgumentError
from lorajax.experiment.options import suggest

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
# `setup.py` copies launch/*.flags into the package that it builds; in a clone they lie beside it.
_PLACES = (_PACKAGE / 'flagfiles', _PACKAGE.parent / 'launch')
_SUFFIX = '.flags'


def shipped() -> dict[str, pathlib.Path]:
    """Returns the shipped flagfiles by name, such as 'toy'."""
    return {path.stem: path for place in _PLACES for path in sorted(place.glob(f'*{_SUFFIX}'))}


def find(name: str) -> pathlib.Path:
    """Returns the file of a path or of a shipped name.

    Raises:
      ArgumentError: if there is none.
    """
    path = pathlib.Path(name)
    if path.is_file():
        return path
    known = shipped()
    if str(path.parent) in ('.', 'launch') and path.name.removesuffix(_SUFFIX) in known:
        return known[path.name.removesuffix(_SUFFIX)]
    hint = suggest(path.name.removesuffix(_SUFFIX), known)
    raise ArgumentError('flagfile', name, f'no such file{hint}')


def lines(name: str) -> list[str]:
    """Returns the flags of a flagfile, with those of the flagfiles that it names in their place.

    Empty lines and those that begin with # or // are comments.

    Raises:
      ArgumentError: for a file that is not there, is no text, or names itself.
    """
    return list(_lines(name, ()))


def _lines(name: str, outer: tuple[pathlib.Path, ...]) -> Iterator[str]:
    """Yields the flags of a flagfile that stands within others."""
    path = find(name).resolve()
    if path in outer:
        raise ArgumentError('flagfile', name, f'names itself, by way of {outer[-1].name}')
    try:
        text = path.read_text(encoding='utf-8-sig')  # as editors of Windows write it
    except UnicodeDecodeError:
        raise ArgumentError('flagfile', name, 'is no text, expected one flag a line') from None
    for line in map(str.strip, text.splitlines()):
        flag, _, inner = line.partition('=')
        if flag in ('--flagfile', '-flagfile'):
            yield from _lines(inner, (*outer, path))
        elif line and not line.startswith(('#', '//')):
            if line.endswith('\\') or re.search(r'\s--?\w+=', line):
                raise ArgumentError('flagfile', name, f'{line!r}: expected one whole flag a line')
            yield line
