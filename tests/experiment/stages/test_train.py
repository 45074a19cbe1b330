"""Every task gets an adapter on both models; what a killed run left is gone on with."""

import dataclasses
import shutil

import pytest

from lorajax import lora
from lorajax.errors import InputError
from lorajax.experiment import pipeline
from lorajax.experiment.adapters import REPEATED
from lorajax.experiment.stages import train


def weights(experiment, pool, task):
    return (experiment.files.adapter(pool, task) / 'adapter_model.safetensors').read_bytes()


def test_pools_are_both_models_and_the_repetition(toy_run):
    pools = {pool.name: pool for pool in train.pools(toy_run)}
    assert list(pools) == ['source', 'target', REPEATED]
    assert pools['source'].tasks == toy_run.tasks and pools[REPEATED].tasks == toy_run.heldouts
    assert (pools['target'].config.repeat, pools[REPEATED].config.repeat) == (0, 1)
    plain = dataclasses.replace(toy_run, diagnostics=False)
    assert [pool.name for pool in train.pools(plain)] == ['source', 'target']


def test_adapters_name_their_base_and_repetitions_differ(toy_run):
    (task,) = toy_run.heldouts
    config, _ = lora.load_peft(toy_run.files.adapter('source', task))
    assert config.base_model == toy_run.model_directory('source')
    assert (config.rank, config.alpha) == (toy_run.lora_rank, toy_run.lora_alpha)
    assert weights(toy_run, REPEATED, task) != weights(toy_run, 'target', task)
    assert not (toy_run.files.root / 'checkpoints' / 'target').exists()


def test_a_missing_adapter_is_trained_again_to_the_same_bytes(copied_run):
    """Its whole group is trained again, and only what is missing is written."""
    (task,) = copied_run.heldouts
    before = weights(copied_run, 'target', task)
    other = copied_run.files.adapter('target', copied_run.anchors[0])
    stamp = other.stat().st_mtime_ns
    shutil.rmtree(copied_run.files.adapter('target', task))
    assert pipeline.run(dataclasses.replace(copied_run, stages=('train',))) == ['train']
    assert weights(copied_run, 'target', task) == before and other.stat().st_mtime_ns == stamp


def test_states_of_other_pools_are_left_alone(copied_run):
    """A killed distillation goes on after the train stage has looked at its own pools."""
    left = copied_run.files.checkpoints('distilled', 'group') / 'state'
    left.parent.mkdir(parents=True)
    left.write_text('half way')
    assert not train.train(copied_run)
    (task,) = copied_run.heldouts
    shutil.rmtree(copied_run.files.adapter('source', task))
    assert train.train(copied_run) and left.read_text() == 'half way'


def test_a_group_is_of_similar_lengths():
    def rows(length):
        return [type('Row', (), {'prompt': [0] * length, 'answer': [0]})()]

    encoded = {'long': rows(9), 'short': rows(1), 'middle': rows(5)}
    assert [list(group) for group in train._groups(encoded, 2)] == [['short', 'middle'], ['long']]
    assert [list(group) for group in train._groups(encoded, 0)] == [['short', 'middle', 'long']]


def test_a_damaged_row_is_refused(copied_run):
    (task,) = copied_run.heldouts
    shutil.rmtree(copied_run.files.adapter('source', task))
    path = copied_run.files.train_data(copied_run.anchors[0])
    path.write_text(path.read_text().replace('code', 'cods', 1))
    with pytest.raises(InputError, match=str(path)):
        train.train(copied_run)
