import dataclasses

import pytest

from lorajax.errors import InputError
from lorajax.mapping import BaseModelArrays
from lorajax.mapping.methods import METHODS, method_named


def test_every_row_says_what_the_method_is_and_needs():
    arrays = {field.name for field in dataclasses.fields(BaseModelArrays)}
    for name, method in METHODS.items():
        assert method.summary and method.reference, name
        assert set(method.needs) <= arrays, name
        assert method.query_side in ('source', 'target'), name
        # What is shown the truth, or uses no adapter of the source, is never called learned.
        if method.query_side == 'target' or name in ('zero', 'mean', 'mean_delta', 'scaled_mean'):
            assert not method.is_learned, name
    assert len({method.summary for method in METHODS.values()}) == len(METHODS)


def test_methods_of_the_seed_are_there_and_count_as_learned():
    for name in (
        'global_ridge', 'pertensor_ridge', 'topk8_global_ridge', 'topk8_pertensor_ridge',
        'pertensor_mlp',
    ):  # fmt: skip
        assert METHODS[name].is_learned and not METHODS[name].any_rank
    assert not METHODS['mean'].is_learned


def test_names_are_looked_up_and_corrected():
    assert method_named('delta_ridge') is METHODS['delta_ridge']
    assert method_named('topk8_global_ridge') is METHODS['topk8_global_ridge']
    assert method_named('topk3_global_ridge') is method_named('topk3_global_ridge')
    with pytest.raises(InputError, match="'delta_rigde': did you mean 'delta_ridge'"):
        method_named('delta_rigde')
    with pytest.raises(InputError, match=r'unknown mapping method .*expected one of'):
        method_named('')
