"""Identities of the forward pass, the cache and the decode loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.models import attention, presets
from lorajax.models.decoding import Sampling
from lorajax.models.transformer import Transformer


@pytest.fixture(
    scope='module', params=[presets.QWEN2_TINY, presets.LLAMA3_TINY], ids=['qwen2', 'llama']
)
def model(request):
    return models.random_model(request.param, jax.random.key(0))


def random_adapter(config, seed, targets=lora.TARGETS, rank=3):
    rng = np.random.default_rng(seed)
    return {
        'layers': {
            name: {
                'a': rng.normal(0, 0.2, (config.num_layers, *sizes[:1], rank)).astype(np.float32),
                'b': rng.normal(0, 0.2, (config.num_layers, rank, sizes[1])).astype(np.float32),
            }
            for name, sizes in config.projections.items()
            if name in targets
        }
    }


def tokens_for(config, shape=(3, 10), seed=0):
    return np.random.default_rng(seed).integers(3, config.vocab_size, shape).astype(np.int32)


def test_zero_adapter_is_the_base_bit_for_bit(model):
    tokens = tokens_for(model.config)
    zero = jax.tree.map(np.zeros_like, random_adapter(model.config, 0))
    np.testing.assert_array_equal(model.logits(tokens), model.logits(tokens, adapter=zero))
    np.testing.assert_array_equal(model.logits(tokens), model.logits(tokens, adapter={}))


@pytest.mark.parametrize('targets', [lora.TARGETS, ('q_proj',), ('v_proj', 'down_proj')])
def test_merged_equals_adapter_and_unmerge_undoes_it(model, targets):
    import dataclasses

    tokens = tokens_for(model.config)
    adapter = random_adapter(model.config, 1, targets)
    merged = dataclasses.replace(model, params=lora.merge(model.params, adapter))
    expected = np.asarray(model.logits(tokens, adapter=adapter))
    np.testing.assert_allclose(merged.logits(tokens), expected, atol=2e-4)
    assert np.abs(expected - np.asarray(model.logits(tokens))).max() > 0.01
    back = lora.unmerge(merged.params, adapter)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), back, model.params)


def test_stacked_adapters_equal_one_after_the_other(model):
    tokens = tokens_for(model.config)
    adapters = [random_adapter(model.config, seed) for seed in range(3)]
    stacked = model.logits(tokens, adapter=lora.stack(adapters))
    for row, adapter in zip(stacked, adapters, strict=True):
        np.testing.assert_allclose(row, model.logits(tokens, adapter=adapter), atol=1e-4)
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


def test_packed_rows_equal_the_rows_alone(model):
    first, second = tokens_for(model.config, (1, 5)), tokens_for(model.config, (1, 7), seed=1)
    packed = np.concatenate([first, second, np.zeros((1, 2), np.int32)], axis=1)
    segments = np.array([[1] * 5 + [2] * 7 + [0] * 2], np.int32)
    logits = np.asarray(model.logits(packed, segments))
    np.testing.assert_allclose(logits[:, :5], model.logits(first), atol=1e-4)
    np.testing.assert_allclose(logits[:, 5:12], model.logits(second), atol=1e-4)


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


def test_right_padded_prompts_are_refused(model):
    from lorajax.errors import InputError

    with pytest.raises(InputError, match='left padding'):
        model.generate(tokens_for(model.config, (1, 3)), np.array([[1, 1, 0]]))


def test_remat_changes_memory_not_results(model):
    tokens = jnp.asarray(tokens_for(model.config))
    adapter = jax.tree.map(jnp.asarray, random_adapter(model.config, 2))

    def gradient(remat):
        module = Transformer(model.config, remat=remat)

        def loss(adapter):
            variables = {'params': model.params, 'lora': adapter}
            return jnp.square(module.apply(variables, tokens, jnp.ones_like(tokens))[0]).sum()

        return jax.jit(jax.grad(loss))(adapter)

    reference = gradient('none')
    for remat in ('dots', 'full'):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-4),
            gradient(remat),
            reference,
        )


def test_delta_gradient_equals_that_of_the_plain_product():
    keys = jax.random.split(jax.random.key(0), 4)
    x, a, b, dy = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys, [(2, 5, 7), (7, 3), (3, 6), (2, 5, 6)], strict=True)
    )
    expected = jax.vjp(lambda x, a, b: (x @ a) @ b, x, a, b)[1](dy)
    actual = jax.vjp(lora.low_rank_delta, x, a, b)[1](dy)
    for left, right in zip(actual, expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def test_positions_count_within_segments():
    segments = jnp.array([[0, 0, 1, 1, 1], [1, 1, 2, 2, 0], [1, 1, 1, 1, 1]])
    expected = [[0, 0, 0, 1, 2], [0, 1, 0, 1, 0], [0, 1, 2, 3, 4]]
    np.testing.assert_array_equal(attention.positions_of(segments), expected)


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
