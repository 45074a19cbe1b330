"""What names of methods count as."""

from lorajax.evaluation.roles import REFERENCE_METHODS, TRAINED_METHODS, needs
from lorajax.mapping import METHODS
from tests.seed_table import METHODS as SEED_METHODS


def test_the_seeds_learned_methods_count_as_learned():
    learned = [name for name in SEED_METHODS if name not in REFERENCE_METHODS]
    assert learned == [name for name in SEED_METHODS if name not in ('base', 'mean', 'oracle')]


def test_every_mapping_counts_as_its_table_says():
    for name, method in METHODS.items():
        assert (name not in REFERENCE_METHODS) == method.is_learned, name


def test_controls_and_trainings_are_references():
    controls = {'zero', 'mean_delta', 'scaled_mean', 'nearest', 'placebo', 'pad_truncate'}
    assert controls | {'base', 'mean', 'oracle', 'span_oracle', 'span_oracle_tensor'} <= set(
        REFERENCE_METHODS
    )
    assert set(TRAINED_METHODS) <= set(REFERENCE_METHODS)
    assert len(set(REFERENCE_METHODS)) == len(REFERENCE_METHODS)


def test_every_method_says_what_it_must_be_given():
    assert needs('base') == 'nothing' and needs('matched_scaled') == 'adapters'
    assert needs('theseus') == 'adapters, both bases' and 'the oracle' in needs('span_oracle')
    assert needs('topk8_global_ridge') == 'adapters'
    assert needs('of another program') == ''
    assert 'a training' in needs('distilled') and 'a training' not in needs('reweighted')
