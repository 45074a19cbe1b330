"""Adapters respond more to prompts of their kind."""

import numpy as np
import pytest

from lorajax.distillation import response
from lorajax.models import activations
from tests.distillation.toy_teacher import load, random_adapter


@pytest.fixture(scope='module')
def source():
    return load('source')[0]


PROMPTS = [np.arange(5, 5 + n, dtype=np.int32) for n in (7, 4, 9)]


def test_energies_are_norms_of_what_the_updates_return(source):
    adapters = {
        'one': random_adapter(source, 1, targets=('q_proj', 'down_proj')),
        'other': random_adapter(source, 2, rank=2, targets=('q_proj',)),
    }
    found = response.energies(source, adapters, PROMPTS)
    layers = source.config.num_layers
    upper = range(layers // 2, layers)
    places = [np.arange(len(prompt)) for prompt in PROMPTS]
    inputs = activations.collect(source, PROMPTS, places).inputs
    names = list(source.config.projections)
    for name, adapter in adapters.items():
        assert found[name].shape == (len(upper), 3, len(names))
        for column, projection in enumerate(names):
            entry = adapter['layers'].get(projection)
            if entry is None:
                assert np.isnan(found[name][:, :, column]).all()
                continue
            for row, layer in enumerate(upper):
                delta = entry['a'][layer].astype(np.float64) @ entry['b'][layer]
                parts = np.split(inputs[projection][layer], [7, 11])
                expected = [
                    np.log(((x @ delta) ** 2).sum() / len(x) / (delta**2).sum()) for x in parts
                ]
                np.testing.assert_allclose(found[name][row, :, column], expected, atol=1e-4)


def test_projections_that_tell_kinds_apart_are_looked_at_where_all_adapt_one(source):
    both = {'one': random_adapter(source, 1, targets=('q_proj', 'up_proj')),
            'other': random_adapter(source, 2, targets=('q_proj', 'gate_proj'))}  # fmt: skip
    found = response.energies(source, both, PROMPTS[:1])
    assert np.isnan(found['one'][0, 0]).tolist() == [True, True, False]  # of o, gate and up
    assert np.isnan(found['other'][0, 0]).tolist() == [True, False, True]


def test_prompts_do_not_depend_on_what_is_in_memory_with_them(source, monkeypatch):
    adapters = {'one': random_adapter(source, 1)}
    together = response.energies(source, adapters, PROMPTS)['one']
    monkeypatch.setattr(response, '_TOGETHER', 8)
    apart = response.energies(source, adapters, PROMPTS)['one']
    np.testing.assert_allclose(apart, together, atol=1e-4)


def test_long_prompts_are_looked_at_in_some_places_with_the_last():
    assert response._spread(4).tolist() == [0, 1, 2, 3]
    spread = response._spread(1000)
    assert len(spread) == 16 and spread[0] == 0 and spread[-1] == 999


def test_responses_are_relative_to_the_others_tensor_by_tensor():
    nan = np.nan
    found = {  # one layer, two prompts, two projections
        'a': np.array([[[1.0, 5.0], [2.0, 5.0]]]),
        'b': np.array([[[3.0, 7.0], [2.0, 7.0]]]),
        'new': np.array([[[4.0, nan], [2.0, nan]]]),
        'zero': np.full((1, 2, 2), nan),
    }
    relative = response.relative(found, ['a', 'b'])
    assert relative['new'].tolist() == [2.0, 0.0]  # only the first projection is compared
    assert relative['a'].tolist() == [-1.0, -0.5] and relative['b'].tolist() == [1.0, 0.5]
    assert relative['zero'].tolist() == [0.0, 0.0]
    assert response.relative(found, [])['new'].tolist() == [0.0, 0.0]
