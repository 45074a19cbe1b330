"""What names of methods count as."""

import dataclasses

import pytest

from lorajax.evaluation import stats
from lorajax.evaluation.roles import TRAINED_METHODS, does, is_learned, needs
from lorajax.mapping import METHODS, plugins
from tests.seed_table import METHODS as SEED_METHODS


def test_the_seeds_learned_methods_count_as_learned():
    learned = [name for name in SEED_METHODS if is_learned(name)]
    assert learned == [name for name in SEED_METHODS if name not in ('base', 'mean', 'oracle')]


def test_every_mapping_says_of_itself_whether_it_counts():
    for name, method in METHODS.items():
        assert is_learned(name) == method.is_learned, name
    assert is_learned('topk3_global_ridge') and is_learned('of another program')


def test_controls_and_trainings_are_references():
    controls = {'zero', 'mean_delta', 'scaled_mean', 'nearest', 'placebo', 'pad_truncate'}
    others = {'base', 'mean', 'oracle', 'repeated', 'span_oracle', 'span_oracle_tensor'}
    assert not any(map(is_learned, controls | others | set(TRAINED_METHODS)))


def test_a_reference_of_another_package_does_not_win_the_headline(monkeypatch):
    offered = dataclasses.replace(METHODS['mean_delta'], is_learned=False)
    monkeypatch.setattr(plugins, 'load', lambda name: offered if name == 'theirs' else None)
    counts = {'n': 100, 'base': 10, 'mean': 20, 'delta_ridge': 30, 'theirs': 90, 'oracle': 100}
    found = stats.experiment1({'t': counts})
    assert found['learned_methods'] == ['delta_ridge']
    assert found['headline'] == pytest.approx(0.1)


def test_every_method_says_what_it_does():
    assert all(map(does, [*METHODS, *TRAINED_METHODS, 'topk8_global_ridge']))
    assert does('oracle') == does('of another program') == ''


def test_every_method_says_what_it_must_be_given():
    assert needs('base') == 'nothing' and needs('matched_scaled') == 'adapters'
    assert needs('theseus') == 'adapters, both models' and 'the oracle' in needs('span_oracle')
    assert needs('topk8_global_ridge') == 'adapters'
    assert needs('of another program') == ''
    assert 'a training' in needs('distilled') and 'a training' not in needs('reweighted')
