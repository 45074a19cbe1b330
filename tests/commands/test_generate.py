"""Text from a model: what it is given, and what it refuses before it loads weights."""

import pytest

from lorajax.errors import ArgumentError, InputError
from tests.commands import toy_adapters
from tests.commands.command_line import run

PROMPT = '--prompt=code keep three ca cb cc cd'  # all tags known: the base model can do it


def test_the_base_model_answers_what_it_was_trained_on(capsys):
    run('generate', '--model=toy-target', PROMPT, '--max_new_tokens=8', '--dtype=float32')
    assert capsys.readouterr().out.split() == ['cd', 'ce', 'cf', 'cg']


def test_an_adapter_changes_the_answer(tmp_path, capsys):
    toy_adapters.write(tmp_path / 'x', 'target', 1, 'toy-target', size=30.0)
    run('generate', '--model=toy-target', PROMPT, '--max_new_tokens=8', f'--adapter={tmp_path}/x')
    assert capsys.readouterr().out.split() != ['cd', 'ce', 'cf', 'cg']


def test_an_adapter_of_another_base_is_refused(tmp_path):
    toy_adapters.write(tmp_path / 'x', 'source', 1, '')
    with pytest.raises(InputError) as error:
        run('generate', '--model=toy-target', f'--adapter={tmp_path}/x', '--prompt=code')
    assert str(error.value) == (
        f'{tmp_path}/x/adapter_model.safetensors: has layer 3, the model has 3 layers'
    )


def test_there_is_no_longest_answer_to_go_by():
    with pytest.raises(ArgumentError, match='max_new_tokens 0: expected at least 1'):
        run('generate', '--model=toy-target', PROMPT, '--max_new_tokens=0')


def test_a_temperature_draws_other_tokens(capsys):
    run('generate', '--model=toy-target', PROMPT, '--max_new_tokens=8', '--temperature=50')
    assert capsys.readouterr().out.split() != ['cd', 'ce', 'cf', 'cg']
