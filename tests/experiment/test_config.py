"""An `Experiment` is the toy world by default, checked when it is made, compared when resumed."""

import dataclasses

import pytest

from lorajax.errors import ArgumentError
from lorajax.experiment import config
from lorajax.experiment.config import RECIPE, Experiment
from lorajax.experiment.options import options_of
from lorajax.lora import TARGETS
from lorajax.training import TrainConfig


def test_every_field_is_a_declared_option_with_help_and_a_group():
    declared = options_of(Experiment)
    assert list(declared) == [field.name for field in dataclasses.fields(Experiment)]
    for name, option in declared.items():
        assert option.help and option.group, name
        assert f'\n  {name}: ' in Experiment.__doc__


def test_values_are_checked_when_an_experiment_is_made():
    with pytest.raises(ArgumentError, match='batch_size 0: expected an integer of at least 1'):
        Experiment(batch_size=0)
    with pytest.raises(ArgumentError, match='stages evalute: expected some of prepare'):
        dataclasses.replace(Experiment(), stages=('evalute',))


def test_the_recipe_is_the_one_of_training():
    recipe = Experiment(**RECIPE).train_config
    assert recipe == dataclasses.replace(TrainConfig(), targets=TARGETS)
    changed = Experiment(lora_rank=3, lora_alpha=5.0, seed=7, separate_init=True).train_config
    assert (changed.rank, changed.alpha, changed.seed, changed.separate_init) == (3, 5.0, 7, True)


def test_every_field_of_the_recipe_is_one_of_train_config_and_back():
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    # Constants, or set beside.
    unset = {'beta1', 'beta2', 'epsilon', 'repeat', 'data_order', 'targets'}
    assert set(config._RECIPE.values()) == fields - unset


def test_top_k_is_written_into_the_names_that_leave_it_open():
    experiment = Experiment(methods=('mean', 'topk_global_ridge', 'topk4_global_ridge'), top_k=2)
    assert experiment.mapping_methods == ('mean', 'topk2_global_ridge', 'topk4_global_ridge')
    assert experiment.to_json()['methods'] == list(experiment.mapping_methods)


def test_differences_are_in_what_a_run_is_and_not_in_how_it_is_done():
    begun = Experiment(lora_rank=4, methods=('mean', 'topk_global_ridge'), top_k=2)
    stored = begun.to_json()
    free = dataclasses.replace(begun, mesh=(1, 1, 1), eval_batch_size=3, stages=('map',))
    assert begun.differences(stored) == free.differences(stored) == {}
    assert dataclasses.replace(begun, lora_rank=3).differences(stored) == {'lora_rank': 4}
    other = dataclasses.replace(begun, top_k=3).differences(stored)
    assert other == {'top_k': 2, 'methods': ['mean', 'topk2_global_ridge']}
    del stored['reweight_prompts']  # a setting that the run's release did not have
    assert begun.differences(stored) == {}


def test_toy_models_lie_in_the_run_and_others_where_they_are():
    experiment = Experiment(workdir='w', target_model='owner/name')
    assert experiment.model_directory('source') == 'w/models/source'
    assert experiment.model_directory('target') == 'owner/name'
    assert experiment.tasks == (*experiment.anchors, *experiment.heldouts)
