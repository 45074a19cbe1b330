"""From a command line to a command, its flags and an `Experiment`."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from absl import flags

from lorajax.commands import COMMANDS
from lorajax.commands.command import Command
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import Option, suggest


class Parsed(NamedTuple):
    """What a command line asks for."""

    command: Command
    flags: Any
    experiment: Experiment


def parse(arguments: Sequence[str]) -> Parsed:
    """Reads a command line.

    Args:
      arguments: without the program's name. The first is the command; a line that begins with a
        flag is a `run`. A flag that the command does not read is refused where it is typed, and
        passed over in a flagfile, which several commands may share; later flags win.

    Raises:
      InputError: on an unknown command or flag, a flag that the command does not read, a
        flagfile that cannot be read.
      ArgumentError: on a value that is not as its flag's declaration says, or a missing one.
    """
    is_flag = arguments[0].startswith('-')
    command = command_named('run' if is_flag else arguments[0])
    given: dict[str, Any] = {}
    for words, path in _sources(arguments if is_flag else arguments[1:]):
        values = _read(words, command.options if path is None else _known(), command.name, path)
        given |= {name: value for name, value in values.items() if name in command.options}
    own, settings = command.own, command.settings
    values = {name: given.get(name, option.default) for name, option in own.items()}
    for name, option in own.items():
        option.check(values[name])
    experiment = Experiment(
        **command.defaults(given) | {name: v for name, v in given.items() if name in settings}
    )
    return Parsed(command, command.flags(**values), experiment)


def command_named(name: str) -> Command:
    """Returns a command; raises `InputError` with the closest name if there is none."""
    if name not in COMMANDS:
        raise InputError(f'{name}: expected one of {", ".join(COMMANDS)}{suggest(name, COMMANDS)}')
    return COMMANDS[name]


def _known() -> dict[str, Option]:
    """All flags of all commands; those of a name may differ in what they mean, not in kind."""
    return {name: o for command in COMMANDS.values() for name, o in command.options.items()}


def _sources(arguments: Sequence[str]) -> Iterator[tuple[list[str], str | None]]:
    """Yields stretches of arguments in order, with the flagfile that they stand in, if any."""
    rest = iter(arguments)
    typed: list[str] = []
    for argument in rest:
        name, is_joined, path = argument.partition('=')
        if name not in ('--flagfile', '-flagfile'):
            typed.append(argument)
            continue
        yield typed, None
        typed = []
        path = path if is_joined else next(rest, '')
        yield _lines(path), path
    yield typed, None


def _lines(path: str) -> list[str]:
    """Returns the flags of a flagfile and of those that it names."""
    if not pathlib.Path(path).is_file():
        raise ArgumentError('flagfile', path, 'no such file')
    try:
        return flags.FlagValues().read_flags_from_files([f'--flagfile={path}'], force_gnu=True)
    except flags.Error as error:
        raise ArgumentError('flagfile', path, ' '.join(str(error).split())) from None
    except UnicodeDecodeError:
        raise ArgumentError('flagfile', path, 'is no text, expected one flag a line') from None


def _read(
    words: list[str], options: Mapping[str, Option], command: str, path: str | None
) -> dict[str, Any]:
    """Reads flags that must be among `options`."""
    values = flags.FlagValues()
    for option in options.values():
        define = flags.DEFINE_bool if option.kind is bool else flags.DEFINE_string
        define(option.name, None, option.help, flag_values=values)
    where = f'--flagfile={path}: ' if path else ''
    try:
        rest = values(['lorajax', *words])[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname.split('=')[0]
        if name in _known() or name.removeprefix('no') in _known():
            problem = f'{command} does not read it; see lorajax help {command}'
        else:
            problem = f'unknown flag{suggest(name, options).replace("mean ", "mean --")}'
        raise InputError(f'{where}--{name}: {problem}') from None
    except flags.Error as error:
        raise InputError(f'{where}{error}') from None
    if rest:
        raise InputError(
            f'{where}{rest[0]}: expected a flag, as --name=value; a command comes first'
        )
    return {
        name: option.parse(cast(str | bool, values[name].value))
        for name, option in options.items()
        if values[name].present
    }
