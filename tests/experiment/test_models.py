"""A model by any of its names is the same model, and a run keeps the one it was begun with."""

import shutil

import numpy as np
import pytest

from lorajax import io, toy
from lorajax.errors import InputError
from lorajax.experiment import models
from lorajax.experiment.config import Experiment

PLAIN = Experiment(mesh=(1, -1, 1))


def test_names_are_directories():
    assert models.resolve('toy-source') == toy.MODELS['toy-source']
    assert models.resolve(str(toy.MODELS['toy-source'])) == toy.MODELS['toy-source']
    assert models.read_config('toy-target').num_layers == 3
    with pytest.raises(InputError, match='nowhere/at/all'):
        models.resolve('nowhere/at/all')


def test_precision_is_that_of_the_experiment():
    model, chat = models.load('toy-source', Experiment(param_dtype='bfloat16', dtype='bfloat16'))
    assert {str(leaf.dtype) for leaf in model.params['layers']['q_proj'].values()} == {'bfloat16'}
    exact, _ = models.load('toy-source', PLAIN)
    tokens = chat.encode_prompt('code keep three ca cb cc cd')[None]
    ours, theirs = np.asarray(exact.logits(tokens)), np.asarray(model.logits(tokens))
    assert 0 < np.abs(ours - theirs).max() < 0.1 * np.abs(ours).max()


def test_each_side_has_its_end_token():
    own = models.load_chat('toy-source', PLAIN).stop_ids
    words = models.load_chat('toy-source', PLAIN).tokenizer.convert_ids_to_tokens([5, 6])
    one, two = Experiment(end_tokens=words[:1]), Experiment(end_tokens=tuple(words))
    ends = [
        models.load_chat('toy-source', experiment, side).stop_ids
        for experiment in (one, two)
        for side in ('source', 'target')
    ]
    assert ends == [(5, *own), (5, *own), (5, *own), (6, *own)]


def test_a_changed_base_is_refused_when_a_run_goes_on(tmp_path):
    shutil.copytree(toy.MODELS['toy-source'], tmp_path / 'model')
    experiment = Experiment(workdir=str(tmp_path / 'run'), source_model=str(tmp_path / 'model'))
    recorded = models.weights_hash(tmp_path / 'model')
    io.write_json(experiment.files.config, {'model_hashes': {'source': recorded}})
    models.load_side(experiment, 'source')
    weights = bytearray((tmp_path / 'model' / 'model.safetensors').read_bytes())
    weights[-3] ^= 1  # one bit of one weight
    (tmp_path / 'model' / 'model.safetensors').write_bytes(weights)
    models.weights_hash.cache_clear()  # another process
    with pytest.raises(InputError, match=r'its weights are not those that .*config.json was begun'):
        models.load_side(experiment, 'source')
