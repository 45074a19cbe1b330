"""Identities of the cache and the decode loop, and the samplers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.models import presets
from lorajax.models.decoding import Sampling
from tests.models.identities import random_adapter, tokens_for


@pytest.fixture(
    scope='module', params=[presets.QWEN2_TINY, presets.LLAMA3_TINY], ids=['qwen2', 'llama']
)
def model(request):
    return models.random_model(request.param, jax.random.key(0))


def test_stacked_adapters_decode_like_one_after_the_other(model):
    tokens = tokens_for(model.config)
    adapters = [random_adapter(model.config, seed) for seed in range(3)]
    texts = model.generate(tokens, adapter=lora.stack(adapters), max_new_tokens=12)
    for row, adapter in zip(texts, adapters, strict=True):
        alone = model.generate(tokens, adapter=adapter, max_new_tokens=12)
        np.testing.assert_array_equal(row, alone)


def test_decoding_with_the_cache_equals_whole_forward_passes(model):
    tokens = tokens_for(model.config, (2, 7))
    adapter = random_adapter(model.config, 4)
    output = np.asarray(model.generate(tokens, adapter=adapter, max_new_tokens=9))
    grown = tokens
    for step in range(9):
        logits = np.asarray(model.logits(grown, adapter=adapter))[:, -1]
        np.testing.assert_array_equal(logits.argmax(-1), output[:, step])
        grown = np.concatenate([grown, output[:, step : step + 1]], axis=1)


def test_left_padding_changes_nothing(model):
    tokens = tokens_for(model.config, (1, 6))
    padded = np.concatenate([np.full((1, 5), 1, np.int32), tokens], axis=1)
    mask = (np.arange(11) >= 5).astype(np.int32)[None]
    np.testing.assert_array_equal(
        model.generate(padded, mask, max_new_tokens=8), model.generate(tokens, max_new_tokens=8)
    )


def test_stop_id_ends_a_row_and_padding_follows(model):
    tokens = tokens_for(model.config)
    free = np.asarray(model.generate(tokens, max_new_tokens=10))
    stop = int(free[0, 3])
    output = np.asarray(model.generate(tokens, max_new_tokens=10, eos_ids=(stop,), pad_id=2))
    for row, full in zip(output, free, strict=True):
        ends = np.flatnonzero(full == stop)
        end = ends[0] + 1 if len(ends) else 10
        np.testing.assert_array_equal(row[:end], full[:end])
        assert (row[end:] == 2).all()


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
