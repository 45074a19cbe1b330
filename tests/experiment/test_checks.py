"""What can be known before any work begins is said before any work begins."""

import dataclasses
import shutil

import jax
import pytest

from lorajax import sharding, toy
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import checks, models, tasks
from lorajax.experiment.config import Experiment
from lorajax.models.hf import checkpoint
from lorajax.sandbox import runner


def test_unknown_names_are_named_with_the_closest_known_one():
    checks.check_names(Experiment())
    for change, words in (
        ({'anchors': ('gsm8q',)}, 'gsm8k'),
        ({'heldouts': ('toy_math_kep_7',)}, 'toy_math_keep_7'),
        ({'methods': ('deltaridge',)}, 'delta_ridge'),
    ):
        with pytest.raises(InputError, match=words):
            checks.check_names(Experiment(**change))


def test_names_that_stand_twice_are_refused():
    anchor = Experiment().anchors[0]
    for change, words in (
        ({'anchors': (anchor, anchor)}, 'stands there twice'),
        ({'methods': ('mean', 'mean')}, 'methods mean: stands there twice'),
        ({'heldouts': (anchor,)}, f'heldouts {anchor}: is an anchor, too'),
    ):
        with pytest.raises(ArgumentError, match=words):
            checks.check_names(Experiment(**change))


def test_a_model_is_checked_without_its_weights(monkeypatch):
    def load(*args, **kwargs):
        raise AssertionError('weights were loaded')

    monkeypatch.setattr(checkpoint, 'load_params', load)
    checks.check_model('toy-source', Experiment())


@pytest.mark.parametrize('name', ['tokenizer.json', 'model.safetensors', 'config.json'])
def test_a_model_without_one_of_its_files_is_refused(tmp_path, name):
    shutil.copytree(toy.MODELS['toy-source'], tmp_path / 'model')
    (tmp_path / 'model' / name).unlink()
    with pytest.raises(InputError, match=str(tmp_path)):
        checks.check_model(str(tmp_path / 'model'), Experiment())


def test_a_mesh_must_be_the_machines_and_divide_the_model(monkeypatch):
    config = models.read_config('toy-source')
    with pytest.raises(ArgumentError, match=r'mesh 3,1,1: .* the number of devices'):
        checks.check_mesh(Experiment(mesh=(3, 1, 1)), config)
    # Three devices that are not there: the check looks at numbers alone.
    mesh = jax.sharding.AbstractMesh((1, 1, 3, 1), sharding.MESH_AXES)
    monkeypatch.setattr(checks.sharding, 'make_mesh', lambda shape: mesh)
    with pytest.raises(ArgumentError, match=r'^mesh 1,3,1: fsdp = 3 does not divide the axis of'):
        checks.check_mesh(Experiment(), config)


def test_programs_run_only_where_they_can_be_confined(monkeypatch, caplog):
    with caplog.at_level('WARNING', logger='absl'):
        chosen = tasks.get_all(['mbpp_test_held', 'gsm8k'])
        checks.check_execution(chosen, allow_code_execution=False)
    (line,) = caplog.messages
    assert line.startswith('mbpp_test_held: answers are judged by the span proxy')

    def unconfined():
        raise InputError('sandbox: cannot confine programs on this machine')

    monkeypatch.setattr(runner, 'protections', unconfined)
    with pytest.raises(InputError, match='cannot confine'):
        checks.check_execution(tasks.get_all(['mbpp_test_held']), allow_code_execution=True)
    checks.check_execution(tasks.get_all(['gsm8k']), allow_code_execution=True)
    assert dataclasses.replace(Experiment(), allow_code_execution=True).allow_code_execution
