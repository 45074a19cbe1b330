"""Help on commands, from what they declare."""

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from lorajax.commands import COMMANDS
from lorajax.commands.command import Command
from lorajax.experiment.options import Option, show

_WIDTH = 100
_WHOLE: dict[str, Any] = {'break_on_hyphens': False, 'break_long_words': False}
_NO_TEXT = '(what it does is not in this Python: unset PYTHONOPTIMIZE)'
_LONGEST_DEFAULT = 60  # characters; longer defaults are lists of tasks, left out

_COMMON = """\
every command:
  --flagfile: a file of flags, one a line, or the name of a shipped one such as toy; flags that
      are typed win over it
  --dry_run: show all flags with their values and what would be done, and do nothing
  --help: this text"""

# Group of settings -> heading.
_HEADINGS = {
    'run': 'the run',
    'models': 'models',
    'data': 'data',
    'tasks': 'tasks',
    'mappings': 'mappings',
    'tables': 'tables',
    'adapters': 'adapters',
    'training': 'training',
    'decoding': 'decoding',
    'lengths': 'lengths',
    'machine': 'the machine',
    'precision': 'precision',
}


def overview() -> str:
    """Returns what there is to ask for."""
    lines = [
        'usage: lorajax COMMAND [--flagfile=launch/NAME.flags] [--flag=value ...]',
        '       lorajax help COMMAND, lorajax --version',
        '',
        'Translates LoRA adapters from one base model to another. With a flagfile and no command',
        'the whole experiment of that file is done.',
        '',
    ]
    for name, command in COMMANDS.items():
        lines.append(f'  {name:<10} {_paragraphs(command)[0].splitlines()[0]}')
    return '\n'.join(lines)


def of_command(command: Command) -> str:
    """Returns what a command does and every flag that it reads."""
    needed = [f'--{name}=...' for name, option in command.own.items() if option.is_required]
    usage = ' '.join(['usage: lorajax', command.name, *needed, '[--flag=value ...]'])
    lines = [*textwrap.wrap(usage, _WIDTH, subsequent_indent=' ' * 7, **_WHOLE), '']
    for paragraph in _paragraphs(command):
        lines += [*textwrap.wrap(' '.join(paragraph.split()), _WIDTH), '']
    if command.own:
        lines += [f'flags of {command.name}:', *_flag_lines(command, command.own, {}), '']
    defaults = command.defaults({})
    for group, heading in _HEADINGS.items():
        listed = {name: o for name, o in command.settings.items() if o.group == group}
        if listed:
            lines += [f'{heading}:', *_flag_lines(command, listed, defaults), '']
    lines += [_COMMON, '']
    return '\n'.join(lines[:-1])


def _paragraphs(command: Command) -> list[str]:
    """Splits a command's docstring, without the sections that are for developers.

    Python leaves docstrings out where PYTHONOPTIMIZE is 2.
    """
    text = inspect.cleandoc(command.run.__doc__ or _NO_TEXT).split('\n\nRaises:')[0]
    return text.split('\n\n')


def _flag_lines(
    command: Command, options: Mapping[str, Option], defaults: Mapping[str, object]
) -> list[str]:
    """Returns a flag, its help, its choices and its default, wrapped."""
    lines = []
    for name, option in options.items():
        text = f'--{name}: {option.help}'
        if option.choices and not option.is_list:
            text += f': {", ".join(option.choices)}'
        default = show(defaults.get(name, option.default))
        if option.default not in (None, '', ()) and len(default) <= _LONGEST_DEFAULT:
            text += f' ({default})'
        if needed := command.condition(name):
            text += f'; with {" or ".join(f"--{other}" for other in needed)} alone'
        lines += textwrap.wrap(
            text, _WIDTH, initial_indent='  ', subsequent_indent='      ', **_WHOLE
        )
    return lines
