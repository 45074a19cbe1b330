"""Answers after a prompt that was read once lose what they lose in the whole sequence."""

import jax
import jax.numpy as jnp
import numpy as np

from lorajax import lora, models
from lorajax.models import prompts as prompts_lib
from lorajax.models.continuation import continuation_nll
from lorajax.models.loss import target_nll
from tests.models.identities import SHAPE, random_adapter, tokens_for


def test_losses_after_a_prompt_are_those_of_the_whole_sequence():
    model = models.random_model(SHAPE, jax.random.key(0))
    tokens = jnp.array(tokens_for(model.config, (2, 3, 12)))
    adapter = lora.stack([random_adapter(model.config, seed) for seed in range(2)])
    segments = jnp.ones_like(tokens).at[:, 1, :3].set(0).at[:, 2, 10:].set(0)
    index = jnp.broadcast_to(jnp.arange(7, 12), (2, 3, 5))
    mask = (segments[..., 7:] > 0).astype(jnp.float32)
    expected = target_nll(model.module, model.params, adapter, tokens, segments, index, mask)
    prompts = prompts_lib.read_prompts(
        model.module, model.params, adapter, tokens[..., :7], segments[..., :7]
    )
    arguments = model.module, model.params, adapter, prompts
    found = continuation_nll(*arguments, tokens[..., 7:], segments[..., 7:], mask)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)  # float32, other sums
    one = continuation_nll(*arguments, tokens[..., 7:8], segments[..., 7:8], mask[..., :1])
    np.testing.assert_allclose(one, expected[..., :1], rtol=1e-5, atol=1e-5)
