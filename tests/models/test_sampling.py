"""Samplers against what they should draw."""

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.models.sampling import Greedy, Sampling


def test_greedy_takes_the_first_of_the_likeliest():
    rng = np.random.default_rng(0)
    logits = rng.integers(-5, 5, (40, 3, 17)).astype(np.float32)  # many are equal
    logits[0, 0] = -np.inf
    found = Greedy()(jnp.asarray(logits), jax.random.key(0))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, logits.argmax(-1))
    logits[1, 1, 5] = np.nan
    assert 0 <= int(Greedy()(jnp.asarray(logits), jax.random.key(0))[1, 1]) < 17


def test_sampling_keeps_to_its_support_and_frequencies():
    logits = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
    keys = jax.random.split(jax.random.key(0), 4000)

    def frequencies(sampler):
        drawn = jax.vmap(lambda key: sampler(logits, key))(keys)
        return np.bincount(np.asarray(drawn), minlength=4) / len(keys)

    np.testing.assert_allclose(frequencies(Sampling()), [0.5, 0.3, 0.15, 0.05], atol=0.03)
    np.testing.assert_allclose(frequencies(Sampling(top_k=2)), [0.625, 0.375, 0, 0], atol=0.03)
    np.testing.assert_allclose(frequencies(Sampling(top_p=0.7)), [0.625, 0.375, 0, 0], atol=0.03)
    cold = frequencies(Sampling(temperature=0.5))
    np.testing.assert_allclose(cold[0], 0.25 / (0.25 + 0.09 + 0.0225 + 0.0025), atol=0.03)
