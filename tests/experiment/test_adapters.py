"""Adapters of a run: read by side and task, written for a base, missed with a hint."""

import numpy as np
import pytest

from lorajax import lora
from lorajax.errors import InputError
from lorajax.experiment import adapters
from lorajax.experiment.config import Experiment
from tests.commands import toy_adapters


@pytest.fixture
def experiment(tmp_path):
    return Experiment(workdir=str(tmp_path), anchors=('a', 'b'), heldouts=('h',))


def test_anchors_of_both_models_are_read(experiment):
    drawn = {
        (side, task): toy_adapters.write(experiment.files.adapter(side, task), side, seed, side)
        for seed, task in enumerate(experiment.anchors)
        for side in adapters.SIDES
    }
    for anchors in adapters.load_anchors(experiment):
        assert anchors.tasks == ('a', 'b')
        for task, tree in anchors.trees.items():
            expected = drawn[anchors.side, task]['layers']['v_proj']
            np.testing.assert_allclose(
                tree['layers']['v_proj']['b'], expected['b'], rtol=1e-6, atol=0
            )


def test_what_is_missing_names_the_stage_that_makes_it(experiment):
    with pytest.raises(InputError, match=r'adapters/repeated/h: .* run the stage train first'):
        adapters.load_trained(experiment, adapters.REPEATED, 'h')
    with pytest.raises(InputError, match=r'predicted/mean/h: .* run the stage map first'):
        adapters.load_predicted(experiment, 'mean', 'h')


def test_a_prediction_of_mixed_ranks_is_written_with_its_scale_inside(experiment):
    adapter = toy_adapters.draw('target', 0)
    for key, axis in (('a', 2), ('b', 1)):
        leaf = adapter['layers']['k_proj'][key]
        adapter['layers']['k_proj'][key] = np.take(leaf, [0], axis=axis)
    directory = experiment.files.predicted('mean', 'h')
    adapters.save_predicted(directory, adapter, 'a/target')
    config, stored = lora.load_peft(directory)
    assert (config.rank, config.alpha, config.base_model) == (2, 2, 'a/target')
    for name, entry in adapter['layers'].items():
        other = stored['layers'][name]
        np.testing.assert_allclose(
            np.einsum('lir,lro->lio', other['a'], other['b']),
            np.einsum('lir,lro->lio', entry['a'], entry['b']),
            atol=1e-6,
        )
