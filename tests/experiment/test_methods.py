"""Which methods a run has, by what they need and what they are."""

import dataclasses

import pytest

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.experiment import methods
from lorajax.experiment.config import Experiment


def test_methods_are_fitted_or_trained_and_diagnostics_come_last():
    experiment = Experiment(methods=('distilled', 'mean', 'topk_global_ridge'), top_k=2)
    assert methods.fitted(experiment) == [
        'mean', 'topk2_global_ridge', 'placebo', 'span_oracle_tensor',
    ]  # fmt: skip
    assert methods.trained(experiment) == ['distilled']
    assert methods.predicted(experiment) == [*methods.fitted(experiment), 'distilled']
    plain = dataclasses.replace(experiment, diagnostics=False)
    assert methods.fitted(plain) == ['mean', 'topk2_global_ridge']
    twice = dataclasses.replace(experiment, methods=('placebo', 'mean'))
    assert methods.fitted(twice) == ['placebo', 'mean', 'span_oracle_tensor']


def test_trainings_start_from_what_map_ships():
    assert Experiment().distill_from == mapping.DEFAULT


@pytest.mark.parametrize(
    ('change', 'line'),
    [
        ({'transfer_methods': ('distilled',)}, 'transfer_methods distilled: expected methods that'),
        ({'scaling_methods': ('cross_lora',)}, 'scaling_methods cross_lora: expected methods that'),
        ({'distill_from': 'theseus'}, "distill_from theseus: expected 'fresh' or a method"),
        (
            {'distill_from': 'fresh', 'methods': ('reweighted',)},
            "distill_from fresh: 'reweighted' starts from a mapping",
        ),
        ({'methods': ('matched_rigde',)}, "did you mean 'matched_ridge'"),
        ({'distill_from': 'matched_rigde'}, "did you mean 'matched_ridge'"),
    ],
)
def test_what_a_table_cannot_use_is_refused(change, line):
    methods.check(Experiment())
    with pytest.raises(InputError, match=line):
        methods.check(Experiment(**change))


def test_options_are_those_of_the_run():
    assert methods.options(Experiment()) == {'output_rank': None, 'seed': 0}
    assert methods.options(Experiment(output_rank=3, seed=5)) == {'output_rank': 3, 'seed': 5}
