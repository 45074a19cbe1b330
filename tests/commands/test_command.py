"""What a command declares is what it reads."""

import ast
import inspect

import pytest

from lorajax.commands import COMMANDS, joining
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import options_of

# Properties of `Experiment` -> settings that they are made of.
DERIVED = {
    'files': {'workdir'},
    'tasks': {'anchors', 'heldouts'},
    'train_config': {
        'num_epochs', 'batch_size', 'learning_rate', 'schedule', 'warmup_ratio', 'weight_decay',
        'max_grad_norm', 'lora_rank', 'lora_alpha', 'seed', 'separate_init',
    },
}  # fmt: skip


@pytest.mark.parametrize('name', COMMANDS)
def test_the_settings_that_a_command_looks_at_are_those_that_it_reads(name):
    command = COMMANDS[name]
    tree = ast.parse(inspect.getsource(inspect.getmodule(command.run)))
    seen = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == 'experiment'
    }
    used = set().union(*(DERIVED.get(attribute, {attribute}) for attribute in seen))
    assert used <= set(command.settings), used - set(command.settings)


@pytest.mark.parametrize('name', COMMANDS)
def test_the_flags_of_a_command_are_looked_at(name):
    modules = [inspect.getmodule(COMMANDS[name].run)]
    if issubclass(COMMANDS[name].flags, joining.Flags):
        modules.append(joining)
    source = '\n'.join(map(inspect.getsource, modules))
    for flag in COMMANDS[name].own:
        assert f'flags.{flag}' in source, flag


def test_reads_names_settings_or_groups_that_exist():
    settings = options_of(Experiment)
    known = set(settings) | {option.group for option in settings.values()}
    for command in COMMANDS.values():
        assert set(command.reads) <= known, command.name
        assert not command.own.keys() & command.settings.keys() - {'model'}, command.name
