"""Arrays of both bases have the shapes that mappings are promised."""

import numpy as np
import pytest

from lorajax import io, toy
from lorajax.experiment import base_arrays
from lorajax.experiment.config import Experiment
from lorajax.io import tensor_files
from lorajax.models import config as config_lib
from lorajax.tasks import examples
from lorajax.tasks.task import Example


@pytest.fixture
def experiment(tmp_path):
    experiment = Experiment(
        workdir=str(tmp_path), source_model=str(toy.MODELS['toy-source']),
        target_model=str(toy.MODELS['toy-target']), anchors=('x',), activation_places=6,
    )  # fmt: skip
    rows = [Example(f'x/{i}', 'code ca cb cc cd', 'ce cf', 'ce cf') for i in range(3)]
    examples.write(experiment.files.train_data('x'), rows)
    io.write_json(experiment.files.config, experiment.to_json())
    return experiment


def test_nothing_is_loaded_where_nothing_is_needed(tmp_path):
    assert base_arrays.collect(Experiment(workdir=str(tmp_path / 'no run')), set()) == {}


def test_weights_are_the_files_own_with_the_input_axis_first(experiment):
    arrays = base_arrays.collect(experiment, {'source_weights', 'target_weights'})
    assert set(arrays) == {'source_weights', 'target_weights'}
    stored = tensor_files.read(toy.MODELS['toy-target'] / 'model.safetensors')
    for layer in range(3):
        weight = stored[f'model.layers.{layer}.mlp.up_proj.weight']  # [out, in]
        np.testing.assert_array_equal(arrays['target_weights']['up_proj'][layer], weight.T)


def test_weights_of_two_models_are_compared_in_their_files():
    assert base_arrays.weight_cosine('toy-source', 'toy-source') == pytest.approx(1.0)
    assert np.isnan(base_arrays.weight_cosine('toy-source', 'toy-target'))  # other widths


def test_activations_of_both_models_stand_at_the_same_positions(experiment):
    needs = {f'{side}_{what}' for side in ('source', 'target') for what in ('inputs', 'outputs')}
    arrays = base_arrays.collect(experiment, needs)
    assert set(arrays) == needs
    for side in ('source', 'target'):
        config = config_lib.read(toy.MODELS[f'toy-{side}'])
        for name, (fan_in, fan_out) in config.projections.items():
            assert arrays[f'{side}_inputs'][name].shape == (config.num_layers, 6, fan_in)
            assert arrays[f'{side}_outputs'][name].shape == (config.num_layers, 6, fan_out)
