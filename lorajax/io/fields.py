"""Fields of a JSON object, each checked against what it may be before anything uses it.

A value of the wrong type is no mistake that Python finds: the string "false" counts as true, True
is an integer, and a list lies in wait until something joins it to a path.

  rank = fields.require(path, content, 'r', fields.COUNT)
  is_scaled = fields.require(path, content, 'use_rslora', fields.BOOLEAN, default=False)
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from lorajax.errors import InputError
from lorajax.io.reading import PathLike, shorten

_ABSENT = object()
_MAX_COUNT = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a value may be.

    Attributes:
      words: of what is expected, for the complaint.
      fits: returns whether a value is of the kind.
    """

    words: str
    fits: Callable[[Any], bool]


BOOLEAN = Kind('true or false', lambda value: isinstance(value, bool))
TEXT = Kind('a text', lambda value: isinstance(value, str))
INTEGER = Kind('an integer', lambda value: type(value) is int)
COUNT = Kind(
    f'an integer from 1 to {_MAX_COUNT}',
    lambda value: type(value) is int and 0 < value <= _MAX_COUNT,
)
INDEX = Kind(
    f'an integer from 0 to {_MAX_COUNT}',
    lambda value: type(value) is int and 0 <= value <= _MAX_COUNT,
)
# `parse_json` gives finite numbers only; -inf < x < inf keeps that true of values from elsewhere.
NUMBER = Kind(
    'a number', lambda value: type(value) in (int, float) and -float('inf') < value < float('inf')
)
POSITIVE = Kind('a positive number', lambda value: NUMBER.fits(value) and value > 0)
FRACTION = Kind('a number from 0 to 1', lambda value: NUMBER.fits(value) and 0 <= value <= 1)
OBJECT = Kind('an object', lambda value: isinstance(value, dict))


def list_of(kind: Kind) -> Kind:
    """Returns the kind of lists whose elements are all of one kind."""
    return Kind(
        f'a list, each element {kind.words}',
        lambda value: isinstance(value, list) and all(map(kind.fits, value)),
    )


def object_of(kind: Kind) -> Kind:
    """Returns the kind of objects whose values are all of one kind."""
    return Kind(
        f'an object, each value {kind.words}',
        lambda value: isinstance(value, dict) and all(map(kind.fits, value.values())),
    )


def one_of(*values: Any) -> Kind:
    """Returns the kind of just these values; 1 is not true, nor 1.0."""
    return Kind(
        ' or '.join(map(show, values)),
        lambda value: any(type(value) is type(known) and value == known for known in values),
    )


def either(*kinds: Kind) -> Kind:
    """Returns the kind of what is of any of several kinds."""
    return Kind(
        ' or '.join(kind.words for kind in kinds),
        lambda value: any(kind.fits(value) for kind in kinds),
    )


def show(value: Any) -> str:
    """Returns a JSON value for one line of complaint, cut where it is long."""
    words = {None: 'null', True: 'true', False: 'false'}
    if value is None or isinstance(value, bool):
        return words[value]
    return shorten(repr(value), 60)


def require(
    where: PathLike,
    content: Mapping[str, Any],
    name: str,
    kind: Kind,
    default: Any = _ABSENT,
) -> Any:
    """Returns a field of an object, if it is what it should be.

    Args:
      where: named in errors: a path, or path and place.
      content: the object.
      name: the field.
      kind: what it may be.
      default: stands for a field that is absent or null; without it there must be one.

    Raises:
      InputError: naming file, field, value and what was expected.
    """
    value = content.get(name)
    if value is None and default is not _ABSENT:
        return default
    if name not in content:
        raise InputError(f'{where}: lacks {name}, expected {kind.words}')
    if not kind.fits(value):
        raise InputError(f'{where}: {name} is {show(value)}, expected {kind.words}')
    return value


def require_object(where: PathLike, value: Any) -> dict[str, Any]:
    """Returns a value that must be a JSON object, such as the whole content of a file.

    Raises:
      InputError: naming the file and what it holds instead.
    """
    if not isinstance(value, dict):
        raise InputError(f'{where}: holds {show(value)}, expected an object')
    return value
