"""Help is made of the declarations, so it names every flag and no other."""

import re

import pytest

from lorajax.commands import COMMANDS, help
from lorajax.experiment.config import RECIPE, Experiment
from lorajax.experiment.options import options_of


def test_the_overview_names_every_command():
    lines = help.overview().splitlines()
    assert lines[0].startswith('usage: lorajax COMMAND')
    for name in COMMANDS:
        assert sum(line.startswith(f'  {name} ') for line in lines) == 1
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize('name', COMMANDS)
def test_help_of_a_command_names_the_flags_that_it_reads(name):
    command = COMMANDS[name]
    text = help.of_command(command)
    assert sorted(re.findall(r'^  --(\w+):', text, re.M)) == sorted(
        [*command.options, 'flagfile', 'dry_run', 'help']
    )
    assert max(map(len, text.splitlines())) <= 100 and 'Raises' not in text
    for flag, option in command.own.items():
        assert (f'--{flag}=...' in text.split('\n\n')[0]) == option.is_required


def test_defaults_are_those_of_the_command():
    assert f'of a task ({RECIPE["train_per_task"]})' in help.of_command(COMMANDS['train'])
    assert f'of a task ({Experiment().train_per_task})' in help.of_command(COMMANDS['run'])


def test_every_group_of_settings_has_a_heading():
    groups = {option.group for option in options_of(Experiment).values()}
    assert groups == set(help._HEADINGS)


def test_without_docstrings_there_are_still_names_and_flags(monkeypatch):
    monkeypatch.setattr(COMMANDS['train'].run, '__doc__', None)
    assert '  train      (what it does is not in this Python' in help.overview()
    assert '--train_file:' in help.of_command(COMMANDS['train'])
