"""A setting is written once: its flag, its line of help and its check all come from the field.

@options.documented
@dataclasses.dataclass(frozen=True)
class Settings:
    batch_size: int = option(32, 'items per step and adapter', minimum=1)
"""

import dataclasses
import difflib
import functools
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Hashable, Iterable
from typing import Any, TypeVar, cast

from lorajax.errors import ArgumentError

_T = TypeVar('_T')
_KEY = 'option'
_LARGEST = 2**31 - 1  # sizes and seeds are 32-bit integers on devices
_LONGEST = 200  # characters of a value that a message repeats


@dataclasses.dataclass(frozen=True)
class Option:
    """What is known of one setting.

    Attributes:
      name: of the field, which is also the flag's.
      kind: bool, int, float or str: of the value, or of each item of a list.
      default: None where there is none.
      help: what it is, half a sentence with its unit.
      group: the heading under which help lists it.
      is_list: whether the value is a tuple of items.
      length: of the tuple where it is fixed; 0 otherwise.
      choices: the values there are; () for any. A list takes their order and holds each once.
      minimum, maximum: of a number, included.
      is_required: whether an empty value is refused.
    """

    name: str
    kind: type
    default: Any
    help: str
    group: str = ''
    is_list: bool = False
    length: int = 0
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    is_required: bool = False

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f'{"some" if self.is_list else "one"} of {", ".join(self.choices)}'
        nouns = {bool: 'true or false', int: 'integer', float: 'finite number', str: 'text'}
        noun = nouns[self.kind]
        if self.is_list:
            words = f'{self.length} {noun}s' if self.length else f'{noun}s'
        elif self.kind is bool:
            words = noun
        else:
            words = f'{"an" if noun[0] == "i" else "a"} {noun}'
        if self.minimum is not None and self.maximum is not None:
            words += f' from {self.minimum:g} to {self.maximum:g}'
        elif self.minimum is not None:
            words += f' of at least {self.minimum:g}'
        return f'{words}, separated by commas' if self.is_list else words

    def parse(self, text: str | bool) -> Any:
        """Returns the value that a flag's text stands for.

        Raises:
          ArgumentError: if it stands for none, or for one that `check` refuses.
        """
        if isinstance(text, bool):
            return text
        words = text.split(',') if self.is_list else [text]
        words = [word.strip() for word in words] if self.is_list else words
        try:
            items = [self.kind(word) for word in words if word or not self.is_list]
        except ValueError:
            raise self._refused(text) from None
        value = tuple(items) if self.is_list else items[0]
        self.check(value)
        if self.is_list and self.choices:
            return tuple(choice for choice in self.choices if choice in value)
        return value

    def check(self, value: Any) -> None:
        """Refuses a value that is not of the declared kind, length, range or choice.

        Raises:
          ArgumentError: with what is expected instead.
        """
        if value is None and self.default is None and not self.is_required:
            return
        if self.is_required and not value:
            raise ArgumentError(self.name, None, f'is missing, expected {self.help}')
        if self.is_list and not isinstance(value, tuple | list):
            raise self._refused(value)
        if self.is_list and not value and self.default:
            raise ArgumentError(self.name, None, f'is empty, expected {self.expected}')
        items = value if self.is_list else (value,)
        if self.length and len(items) != self.length:
            raise self._refused(value)
        for item in items:
            self._check_item(item, value)

    def _check_item(self, item: Any, value: Any) -> None:
        """Refuses one item of a value."""
        allowed: tuple[type, ...] = (int, float) if self.kind is float else (self.kind,)
        is_kind = isinstance(item, allowed)
        if not is_kind or (isinstance(item, bool) and self.kind is not bool):
            raise self._refused(value)
        if self.choices and item not in self.choices:
            hint = suggest(item, self.choices)
            raise ArgumentError(self.name, _shorten(item), f'expected {self.expected}{hint}')
        if self.kind in (int, float) and (
            not math.isfinite(item)
            or (self.minimum is not None and item < self.minimum)
            or (self.maximum is not None and item > self.maximum)
        ):
            raise self._refused(value)
        if self.kind is int and abs(item) > _LARGEST:
            problem = f'is too large, expected at most {_LARGEST}'
            raise ArgumentError(self.name, _shorten(show(value)), problem)

    def _refused(self, value: Any) -> ArgumentError:
        """Returns the error of a value that is not as expected."""
        return ArgumentError(self.name, _shorten(show(value)), f'expected {self.expected}')


def option(
    default: Any,
    help: str,
    *,
    group: str = '',
    choices: Iterable[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    required: bool = False,
) -> Any:
    """Returns a dataclass field that is a setting; see `Option` for the arguments.

    The name and the kind (bool, int, float, str, or a tuple of them) are the field's own.
    """
    facts = {
        'help': help,
        'group': group,
        'choices': tuple(choices),
        'minimum': minimum,
        'maximum': maximum,
        'is_required': required,
    }
    return dataclasses.field(default=default, metadata={_KEY: facts})


@functools.cache
def options_of(cls: Hashable) -> dict[str, Option]:
    """Returns the settings of a dataclass by name, in the order of its fields."""
    hints = typing.get_type_hints(cast(Any, cls))
    return {
        field.name: Option(
            name=field.name,
            default=field.default,
            **_kind(hints[field.name]),
            **field.metadata[_KEY],
        )
        for field in dataclasses.fields(cast(Any, cls))
    }


def _kind(hint: Any) -> dict[str, Any]:
    """Reads the kind of a value from the field's annotation."""
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):  # 'str | None'
        return {'kind': next(a for a in arguments if a is not type(None))}
    if typing.get_origin(hint) is tuple:
        return {
            'kind': arguments[0],
            'is_list': True,
            'length': 0 if arguments[-1] is Ellipsis else len(arguments),
        }
    return {'kind': hint}


def check(settings: Any) -> None:
    """Checks every setting of a dataclass instance.

    Raises:
      ArgumentError: of the first one that is refused.
    """
    for name, declared in options_of(cast(Hashable, type(settings))).items():
        declared.check(getattr(settings, name))


def documented(cls: type[_T]) -> type[_T]:
    """Adds the section `Attributes` to the docstring of a dataclass, from its settings' help."""
    lines = [inspect.cleandoc(cls.__doc__ or ''), '', 'Attributes:']
    for name, declared in options_of(cast(Hashable, cls)).items():
        lines += textwrap.wrap(
            f'{name}: {declared.help}.',
            98,
            initial_indent='  ',
            subsequent_indent='    ',
            break_on_hyphens=False,
        )
    cls.__doc__ = '\n'.join(lines)
    return cls


def show(value: Any) -> str:
    """Returns a value as its flag would be written."""
    if isinstance(value, tuple | list):
        return ','.join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shorten(text: str) -> str:
    """Cuts a value that would fill a screen."""
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns '; did you mean NAME?' for the closest known name, '' if none is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f'; did you mean {close[0]}?' if close else ''
