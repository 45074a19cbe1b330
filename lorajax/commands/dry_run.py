"""`--dry_run`: what a command line means, and what it would do."""

import os
from typing import Any

from lorajax.commands.command import Command
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import Option, show


def describe(command: Command, flags: Any, experiment: Experiment) -> list[str]:
    """Returns lines of a flagfile that says the same, and comments on what would be done.

    Nothing is loaded, written or asked for.

    Args:
      command: of the command line.
      flags: values of its own flags.
      experiment: values of all settings.

    Raises:
      InputError: if what would be done can be seen to fail.
    """
    lines = [f'# lorajax {command.name}']
    for name, option in command.own.items():
        lines += _flag(option, getattr(flags, name))
    for name, option in command.settings.items():
        if not command.condition(name) or any(getattr(flags, f) for f in command.condition(name)):
            lines += _flag(option, getattr(experiment, name))
    done = command.plan(flags, experiment) if command.plan else [_first_line(command)]
    if output := getattr(flags, 'output', ''):
        done.append(f'It writes {output}{", which is there" * os.path.lexists(output)}.')
    return [*lines, '# It would do this:', *(f'#   {line}' for line in done)]


def _flag(option: Option, value: Any) -> list[str]:
    """Returns the line of a flag; none where it has no value."""
    if value is None or value in ('', ()):
        return []
    if option.kind is bool and not option.is_list:
        return [f'--{"" if value else "no"}{option.name}']
    return [f'--{option.name}={show(value)}']


def _first_line(command: Command) -> str:
    """Returns what a command does, from its docstring."""
    return (command.run.__doc__ or command.name).splitlines()[0]
