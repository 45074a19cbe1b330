"""From a command line to a command, its flags and an `Experiment`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from lorajax.commands import COMMANDS, flagfiles
from lorajax.commands.command import Command
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import Option, suggest
from lorajax.tasks import task_file


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
        passed over in a flagfile, which several commands may share. What is typed wins over
        flagfiles, wherever it stands; else later flags win. Task files may stand where names of
        tasks do.

    Raises:
      InputError: on an unknown command or flag, a flag that the command does not read, a
        flagfile that cannot be read.
      ArgumentError: on a value that is not as its flag's declaration says, or a missing one.
    """
    is_flag = arguments[0].startswith('-')
    command = command_named('run' if is_flag else arguments[0])
    typed: dict[str, Any] = {}
    given: dict[str, Any] = {}
    words = []
    for stretch, path in _sources(arguments if is_flag else arguments[1:]):
        if path is None:
            words += stretch
            continue
        values = _read(stretch, _known(), command, path)
        given |= {name: value for name, value in values.items() if name in command.options}
    typed = _read(words, command.options, command, None)
    given |= typed
    _check_conditions(command, typed, given)
    _take_task_files(command, given)
    own, settings = command.own, command.settings
    values = {name: given.get(name, option.default) for name, option in own.items()}
    for name, option in own.items():
        option.check(values[name])
    experiment = Experiment(
        **command.defaults(given) | {name: v for name, v in given.items() if name in settings}
    )
    return Parsed(command, command.flags(**values), experiment)


def _check_conditions(command: Command, typed: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuses typed flags that the command reads beside others alone, which are not given."""
    for name in typed:
        needed = command.condition(name)
        if needed and not any(given.get(other) for other in needed):
            flags_needed = ' or '.join(f'--{other}' for other in needed)
            raise InputError(f'--{name}: {command.name} reads it with {flags_needed} alone')


def _take_task_files(command: Command, given: dict[str, Any]) -> None:
    """Puts names of tasks in the place of task files, which move to `task_files`."""
    if 'task_files' not in command.options:
        return
    files = list(given.get('task_files', ()))
    for name in _NAMES_OF_TASKS & given.keys() & command.options.keys():
        value = given[name]
        words = [value] if isinstance(value, str) else value
        paths = [word for word in words if word.endswith('.json')]
        if paths:
            files += paths
            names = tuple(task_file.read(word).name if word in paths else word for word in words)
            given[name] = names[0] if isinstance(value, str) else names
    if files:
        given['task_files'] = tuple(dict.fromkeys(files))


def take_dry_run(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """Returns whether a command line asks for a dry run, and the line without that.

    Raises:
      InputError: if the rest says nothing.
    """
    switch = flags.FlagValues()
    flags.DEFINE_bool(_DRY_RUN, False, '', flag_values=switch)
    words = [w for w in arguments if w.lstrip('-').partition('=')[0] in (_DRY_RUN, f'no{_DRY_RUN}')]
    rest = [word for word in arguments if word not in words]
    try:
        switch(['lorajax', *words])
    except flags.Error as error:
        raise InputError(str(error)) from None
    if words and not rest:
        raise InputError('--dry_run: of what? expected a command or a flagfile, too')
    return bool(switch[_DRY_RUN].value), rest


def command_named(name: str) -> Command:
    """Returns a command; raises `InputError` with the closest name if there is none."""
    if name not in COMMANDS:
        raise InputError(f'{name}: expected one of {", ".join(COMMANDS)}{suggest(name, COMMANDS)}')
    return COMMANDS[name]


_DRY_RUN = 'dry_run'
_NAMES_OF_TASKS = {'task', 'tasks', 'anchors', 'heldouts'}


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
        yield flagfiles.lines(path), path
    yield typed, None


def _read(
    words: list[str], options: Mapping[str, Option], command: Command, path: str | None
) -> dict[str, Any]:
    """Reads flags that must be among `options`."""
    values = flags.FlagValues()
    for option in options.values():
        if option.kind is bool:
            flags.DEFINE_bool(option.name, None, option.help, flag_values=values)
        else:
            flags.DEFINE_multi_string(option.name, None, option.help, flag_values=values)
    where = f'--flagfile={path}: ' if path else ''
    try:
        rest = values(['lorajax', *words])[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname.split('=')[0]
        if name in _known() or name.removeprefix('no') in _known():
            problem = f'{command.name} does not read it; see lorajax help {command.name}'
        else:
            problem = f'unknown flag{suggest(name, options).replace("mean ", "mean --")}'
            if ' ' in name:
                problem = 'expected --name=value'
        raise InputError(f'{where}--{name}: {problem}') from None
    except flags.Error as error:
        raise InputError(f'{where}{error}') from None
    if rest:
        raise InputError(
            f'{where}{rest[0]}: expected a flag, as --name=value; a command comes first'
        )
    return {
        name: _value(option, values[name].value, command)
        for name, option in options.items()
        if values[name].present
    }


def _value(option: Option, found: Any, command: Command) -> Any:
    """Returns the value of a flag; one that names an input may not stand there twice."""
    if isinstance(found, bool):
        return found
    if len(set(found)) > 1 and option.name in command.own:
        if option.is_list:
            return tuple(item for text in found for item in option.parse(text))
        raise ArgumentError(option.name, found[-1], f'is given twice, {found[0]} before')
    return option.parse(found[-1])
