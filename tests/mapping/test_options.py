import numpy as np
import pytest

from lorajax.errors import ArgumentError, InputError
from lorajax.mapping.options import BaseModelArrays, Options, parse


def test_options_are_checked():
    for bad in (
        {'top_k': 0},
        {'output_rank': 1.5},
        {'bilinear_folds': 1},
        {'state_penalty': 0},
        {'sign': 'up'},
    ):
        with pytest.raises(InputError, match=next(iter(bad))):
            Options(**bad)


@pytest.mark.parametrize('value', [0.0, -1, float('nan'), float('inf'), '1', True])
def test_a_penalty_is_a_positive_number(value):
    with pytest.raises(ArgumentError, match=r'ridge_lambda .*: expected a positive number or none'):
        Options(ridge_lambda=value)


def test_names_are_sorted_into_options_and_arrays():
    kernel = {'q_proj': np.zeros((1, 2, 3))}
    options, arrays = parse({'top_k': 3, 'source_weights': kernel})
    assert options == Options(top_k=3)
    assert arrays == BaseModelArrays(source_weights=kernel)
    with pytest.raises(InputError, match="'source_weight': did you mean 'source_weights'"):
        parse({'source_weight': kernel})
    with pytest.raises(InputError, match=r'unknown mapping option .*: expected one of'):
        parse({'zzz': 1})


def test_defaults_are_those_with_which_the_methods_were_measured():
    """Figures in docs/results.md are of these; a fitted mapping keeps its own."""
    assert Options() == Options(
        ridge_lambda=None, top_k=8, output_rank=None, seed=0, base_rank=320, min_similarity=0.1,
        sign='largest', basis_rank=64, source_layers=4, bilinear_penalty=2.0, bilinear_sweeps=6,
        bilinear_starts=4, bilinear_folds=4, state_penalty=0.1,
    )  # fmt: skip
