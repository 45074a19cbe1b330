"""Layers apart compute what the scan over stacked layers computes, on the weights' own memory."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.models import cache as cache_lib
from lorajax.models import presets, stacked, step
from lorajax.models import prompts as prompts_lib
from tests.models.identities import SHAPE, random_adapter, tokens_for

# Every mechanism of the later families in one model.
GEMMA = dataclasses.replace(presets.GEMMA3_TINY, attention_softcap=3.0, logit_softcap=4.0)


@pytest.fixture(
    scope='module',
    params=[SHAPE, GEMMA],
    ids=['first', 'later'],
)
def model(request):
    return models.random_model(request.param, jax.random.key(0))


@pytest.mark.parametrize('adapters', [0, 1, 2], ids=['base', 'one adapter', 'stacked adapters'])
def test_a_token_layer_by_layer_equals_the_scan(model, adapters):
    config = model.config
    trees = [random_adapter(config, seed, ('q_proj', 'down_proj')) for seed in range(2)]
    adapter = [None, trees[0], lora.stack(trees)][adapters]
    rows = (2, 3) if adapters == 2 else (3,)
    tokens = jnp.array(tokens_for(config, (*rows, 6)))
    segments = jnp.ones_like(tokens).at[..., 1, :2].set(0)  # one row is padded on the left
    prompts = prompts_lib.read_prompts(model.module, model.params, adapter, tokens, segments)
    last, position = tokens[..., 0], prompts.valid.sum(-1)
    caches = [
        cache_lib.from_prompts((prompts.k, prompts.v), prompts.valid, 2, split)
        for split in (False, True)
    ]
    expected, (k, v) = stacked.forward(
        model.module, model.params, adapter, last[..., None], jnp.ones_like(last[..., None]),
        position[..., None], caches[0], return_kv=True, slot=6,
    )  # fmt: skip
    expected_cache = cache_lib.write(caches[0], (k, v), jnp.int32(6))
    weights = step.split_layers(model.params)
    entries = step.split_adapter(adapter, config.num_layers)

    def one(entries, *args):
        return step.one_token(model.module, weights, entries, *args, jnp.int32(6))

    run = jax.vmap(one) if adapters == 2 else one
    hidden, cache = run(entries, last, position, caches[1])
    near = {'rtol': 1e-5, 'atol': 1e-5}  # float32, sums in another order
    np.testing.assert_allclose(hidden, expected[..., 0, :], **near)
    for parts, whole in ((cache.k, expected_cache.k), (cache.v, expected_cache.v)):
        np.testing.assert_allclose(np.stack(parts), whole, **near)
    np.testing.assert_array_equal(cache.valid, expected_cache.valid)


def test_split_layers_are_the_weights_and_copy_none_that_are_aligned(model):
    weights = step.split_layers(model.params)
    assert step.is_split(weights) and not step.is_split(model.params)
    for index, layer in enumerate(weights['layers']):
        jax.tree.map(
            lambda leaf, stacked, index=index: np.testing.assert_array_equal(leaf, stacked[index]),
            layer, model.params['layers'],
        )  # fmt: skip
    stacked = model.params['layers']['gate_proj']['kernel']
    stride = stacked.nbytes // stacked.shape[0]
    assert stride % 64 == 0
    start = stacked.unsafe_buffer_pointer()
    for index, layer in enumerate(weights['layers']):
        assert layer['gate_proj']['kernel'].unsafe_buffer_pointer() == start + index * stride


def test_layers_elsewhere_are_copied(model, monkeypatch):
    monkeypatch.setattr(step, 'is_on_one_cpu', lambda params: False)
    apart = step.split_layers(model.params)['layers']
    jax.tree.map(
        lambda whole, *layers: np.testing.assert_array_equal(np.stack(layers), whole),
        model.params['layers'], *apart,
    )  # fmt: skip


def test_small_layers_stay_together(model):
    assert not step.pays(model.params)
    wide = jax.tree.map(lambda leaf: jnp.zeros((leaf.shape[0], 1 << 18)), model.params['layers'])
    assert step.pays({'layers': wide}) == (jax.default_backend() == 'cpu')


GIB = 2**30


@pytest.mark.parametrize(
    ('platform', 'count', 'size', 'is_whole', 'limit', 'expected'),
    [
        ('cpu', 1, 6 * GIB, True, None, True),
        ('cpu', 8, 6 * GIB, True, None, False),
        ('tpu', 1, 6 * GIB, True, 32 * GIB, False),
        ('gpu', 1, 6 * GIB, True, 60 * GIB, True),
        ('gpu', 8, 6 * GIB, True, 60 * GIB, True),
        ('gpu', 8, 6 * GIB, False, 60 * GIB, False),  # cut by fsdp or tensor
        ('gpu', 1, 6 * GIB, True, 18 * GIB, False),  # they would not fit in twice
        ('gpu', 1, 36 << 18, True, 60 * GIB, False),
    ],
)
def test_who_takes_layers_apart(platform, count, size, is_whole, limit, expected):
    devices = [types.SimpleNamespace(platform=platform) for _ in range(count)]
    assert step.pays_on(devices, size, 36, is_whole, limit) == expected
