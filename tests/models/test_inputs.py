"""Tokens and adapters that do not fit a model are refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.models import presets
from lorajax.models.inputs import check_adapter, check_mask, check_tokens
from tests.models.identities import random_adapter

CONFIG = presets.QWEN2_TINY


@pytest.mark.parametrize(
    ('tokens', 'words'),
    [
        ([1, 2], r'are int64\[2\], expected int32\[B, T\]'),
        ([[1.5]], 'are float64'),
        ([[1], [2, 3]], 'differ in length'),
        ([[1, 10**6]], 'hold 1 to 1000000, expected 0 to'),
        ([[-1]], 'hold -1 to -1'),
        (np.zeros((1, 0), int), r'are int64\[1, 0\], expected'),
        (jnp.ones(2, int), r'are int32\[2\], expected'),
    ],
)
def test_what_are_no_tokens_of_the_model_is_refused(tokens, words):
    with pytest.raises(InputError, match=words):
        check_tokens(CONFIG.vocab_size, tokens)


def test_a_mask_has_the_shape_of_the_tokens():
    check_mask((1, 2), [[True, False]])
    with pytest.raises(InputError, match=r'has shape \(1, 1\), the tokens \(1, 2\)'):
        check_mask((1, 2), [[1]])


def test_a_path_is_no_adapter():
    with pytest.raises(InputError, match=r'is a str, expected .*load_peft'):
        check_adapter(CONFIG, 'somewhere')


@pytest.mark.parametrize('factor', ['a', 'b'])
def test_an_adapter_of_other_widths_is_refused(factor):
    adapter = random_adapter(CONFIG, 0, ('q_proj',))
    entry = adapter['layers']['q_proj']
    entry[factor] = entry[factor][:, :-1, :-1]
    with pytest.raises(InputError, match=r'^adapter: q_proj has factors .*, expected '):
        check_adapter(CONFIG, adapter)
    other = {'layers': {'z_proj': entry}}
    with pytest.raises(InputError, match=r"^adapter: unknown projection 'z_proj'"):
        check_adapter(CONFIG, other)


def test_an_adapter_of_nothing_is_none():
    assert check_adapter(CONFIG, None) is check_adapter(CONFIG, {'layers': {}}) is None
