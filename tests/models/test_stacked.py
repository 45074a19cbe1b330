"""Stacked adapters in one pass give what each gives alone."""

import jax
import jax.numpy as jnp
import numpy as np

from lorajax import lora, models
from lorajax.models import presets
from lorajax.models.stacked import forward, is_stacked
from tests.models.identities import random_adapter, tokens_for


def test_a_pass_with_stacked_adapters_is_one_with_each():
    model = models.random_model(presets.QWEN2_TINY, jax.random.key(0))
    trees = [random_adapter(model.config, seed, ('q_proj', 'up_proj')) for seed in range(2)]
    tokens = jnp.array(tokens_for(model.config, (2, 3, 5)))
    adapters, ones = lora.stack(trees), jnp.ones_like(tokens)
    assert is_stacked(adapters) and not is_stacked(trees[0]) and not is_stacked(None)
    arguments = model.module, model.params
    hidden, (k, v) = forward(*arguments, adapters, tokens, ones, return_kv=True)
    for index, tree in enumerate(trees):
        alone, kv = forward(*arguments, tree, tokens[index], ones[index], return_kv=True)
        # float32, products of another shape.
        np.testing.assert_allclose(hidden[index], alone, rtol=1e-4, atol=1e-5)
        for many, one in zip((k, v), kv, strict=True):
            np.testing.assert_allclose(many[:, index], one, rtol=1e-4, atol=1e-5)
