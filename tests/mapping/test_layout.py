"""What a mapping's arrays may be, and that every method says it rightly."""

import pathlib

import numpy as np
import pytest

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.mapping import layout
from lorajax.mapping.methods import method_named
from tests.mapping.worlds import make_world

PATH = pathlib.Path('arrays.safetensors')
LEAVES = {
    'mix': layout.numbers('G X'),
    'group_of': layout.indices('P', below='G'),
    'mixture': layout.numbers('P 3G+1'),
    'penalty': layout.numbers('1', 'inf'),
    'ridge_lambda': layout.numbers('', 'nan'),
    'is_relative': layout.flags('1'),
    'top_k': layout.indices('', below='P', first=1),
}
SIZES = {'X': 3, 'P': 4}


def valid():
    return {
        'mix': np.ones((2, 3)),
        'group_of': np.array([0, 1, 1, 0]),
        'mixture': np.zeros((4, 7)),
        'penalty': np.array([np.inf]),
        'ridge_lambda': np.array(np.nan),
        'is_relative': np.array([True]),
        'top_k': np.array(4),
    }


def test_arrays_of_the_layout_pass_and_name_their_sizes():
    assert layout.check(PATH, valid(), LEAVES, SIZES) == {**SIZES, 'G': 2}


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('mix', np.ones((2, 4)), r'mix is float64\[2, 4\], expected floating-point numb'),
        ('mix', np.ones(3), r'\[G, X\]'),
        ('mix', np.ones((2, 3), int), 'mix is int64'),
        ('mix', np.array([[1.0, np.nan, 1.0]] * 2), 'mix holds NaN or infinity'),
        ('mixture', np.zeros((4, 6)), r'3G\+1\] = \[4, 7\]'),
        ('group_of', np.array([0, 1, 2, 0]), 'group_of holds 0 to 2, expected indices from 0 to 1'),
        ('group_of', np.array([0, -1, 1, 0]), 'group_of holds -1 to 1'),
        ('top_k', np.array(5), 'top_k holds 5 to 5, expected indices from 1 to 4'),
        ('top_k', np.array(0), 'expected indices from 1 to 4'),
        ('penalty', np.array([np.nan]), 'penalty holds NaN'),
        ('penalty', np.array([-np.inf]), 'penalty holds NaN or infinity'),
        ('ridge_lambda', np.array(np.inf), 'ridge_lambda holds NaN or infinity'),
        ('is_relative', np.array([1]), 'expected truth values'),
        ('x' * 100, np.zeros(1), 'holds xxx'),
    ],
)  # fmt: skip
def test_any_other_array_is_named(name, value, message):
    with pytest.raises(InputError, match=message) as caught:
        layout.check(PATH, {**valid(), name: value}, LEAVES, SIZES)
    assert str(caught.value).startswith('arrays.safetensors: ')


def test_a_missing_array_is_named():
    with pytest.raises(InputError, match='lacks penalty, expected'):
        layout.check(PATH, {k: v for k, v in valid().items() if k != 'penalty'}, LEAVES, SIZES)


FAMILIES = ('matched_scaled', 'pertensor_mlp', 'pertensor_pca', 'topk2_pertensor_ridge', 'placebo')


@pytest.mark.parametrize('anchors', [1, 2])
@pytest.mark.parametrize('method', FAMILIES)
def test_few_anchors_keep_the_same_arrays(method, anchors, tmp_path):
    # `test_api` saves and loads every method with more anchors.
    source, target = make_world(tasks=anchors)
    mapping.fit(method, source, target).save(tmp_path / 'mapping')
    loaded = mapping.load(tmp_path / 'mapping')
    assert set(loaded.state.arrays) == set(method_named(method).layout.arrays)
    loaded.predict(source['task0'])
