"""Prompts are read the same, however many at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.models import presets, prompts
from tests.models.identities import random_adapter, tokens_for


@pytest.fixture(scope='module')
def model():
    return models.random_model(presets.QWEN2_TINY, jax.random.key(0))


@pytest.mark.parametrize('stacked', [False, True])
def test_prompts_read_in_pieces_are_those_read_at_once(model, stacked):
    trees = [random_adapter(model.config, seed, ('q_proj',)) for seed in range(2)]
    adapter = lora.stack(trees) if stacked else trees[0]
    tokens = jnp.array(tokens_for(model.config, (2, 4, 6) if stacked else (4, 6)))
    segments = jnp.ones_like(tokens).at[..., 1, :2].set(0)
    arguments = model.module, model.params, adapter, tokens, segments
    whole = prompts.read_jit(*arguments, rows=4, in_pieces=False)
    pieces = prompts.read_jit(*arguments, rows=2, in_pieces=True)
    for part, expected in zip(jax.tree.leaves(pieces), jax.tree.leaves(whole), strict=True):
        assert part.shape == expected.shape
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)  # float32, other shapes
