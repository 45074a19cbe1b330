"""Kernels of int8: near the weights they stand for, everywhere that weights are used."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lorajax import lora, models, sharding
from lorajax.errors import InputError
from lorajax.experiment import base_arrays, memory
from lorajax.models import decoding, presets, quantized, stacked
from lorajax.models import step as step_lib
from lorajax.models.hf import names as hf_names

SHAPE = dataclasses.replace(presets.QWEN2_TINY, vocab_size=64)


@pytest.fixture(scope='module')
def pair():
    """A model, and the same with int8 kernels."""
    plain = models.random_model(SHAPE, jax.random.key(0))
    copy = jax.tree.map(jnp.array, plain.params)
    return plain, dataclasses.replace(plain, params=quantized.quantize(copy))


def test_every_channel_is_near_by_its_own_largest_weight():
    kernel = np.random.default_rng(0).normal(size=(2, 6, 40)).astype(np.float32)
    kernel[0, 3] *= 1000
    kernel[1, 2] = 0
    entry = quantized.quantize({'layers': {'q_proj': {'kernel': jnp.asarray(kernel)}}})
    entry = jax.tree.map(np.asarray, entry['layers']['q_proj'])
    assert entry['kernel'].dtype == np.int8
    half_a_step = np.abs(kernel).max(axis=-1, keepdims=True) / 127 / 2
    dense = quantized.dense(entry['kernel'], entry[quantized.SCALE])
    assert (np.abs(dense - kernel) <= half_a_step * 1.001 + 1e-9).all()  # float32 rounding
    assert (dense[1, 2] == 0).all()
    assert quantized.dense(kernel, None) is kernel


def test_logits_are_those_of_the_weights_that_int8_stands_for(pair):
    plain, small = pair
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    found = np.asarray(small.logits(tokens))
    kernels = base_arrays.kernels(small)
    layers = {
        name: {**entry, 'kernel': jnp.asarray(kernels[name].swapaxes(1, 2))}
        if name in kernels else entry for name, entry in plain.params['layers'].items()
    }  # fmt: skip
    same = dataclasses.replace(plain, params={**plain.params, 'layers': layers})
    expected = np.asarray(same.logits(tokens))
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() <= 1e-5 * scale  # scaled before or after the sum
    error = np.abs(found - np.asarray(plain.logits(tokens))).max() / scale
    assert 1e-4 < error < 0.05  # of two random layers of 8 bits: 0.011 was seen


def test_tokens_decoded_layer_by_layer_are_those_of_the_scan(pair):
    _, small = pair
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    answers = [
        np.asarray(small.generate(tokens, max_new_tokens=4)) for _ in _both_ways(decoding.step_lib)
    ]
    np.testing.assert_array_equal(*answers)


def _both_ways(module):
    """Yields with the layers together, then apart."""
    with pytest.MonkeyPatch.context() as patch:
        for is_apart in (False, True):
            patch.setattr(module, 'pays', lambda params, answer=is_apart: answer)
            yield


def test_a_gradient_reaches_adapters_through_it(pair):
    _, small = pair
    adapter = lora.tree.init_adapter(
        jax.random.key(1), SHAPE.projections, SHAPE.num_layers, 2, ('q_proj',)
    )
    tokens = jnp.arange(6, dtype=jnp.int32)[None]

    def loss(adapter):
        hidden, _ = stacked.forward(
            small.module, small.params, adapter, tokens, jnp.ones_like(tokens)
        )
        return (hidden**2)[..., 0].sum()

    gradient = jax.grad(loss)(adapter)
    assert all(np.abs(e['b']).max() > 0 for e in gradient['layers'].values())


def test_nothing_is_merged_into_it(pair):
    _, small = pair
    entry = {'a': np.ones((1, 1, 1)), 'b': np.ones((1, 1, 1))}
    with pytest.raises(InputError, match='q_proj: its weights are int8'):
        lora.merge(small.params, {'layers': {'q_proj': entry}})


def test_it_lies_as_the_kernel_lay():
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    where = NamedSharding(mesh, PartitionSpec(None, 'tensor', 'fsdp'))
    kernel = jax.device_put(np.ones((2, 4, 8), np.float32), where)
    entry = quantized.quantize({'layers': {'q_proj': {'kernel': kernel}}})['layers']['q_proj']
    assert entry['kernel'].sharding == where
    assert entry[quantized.SCALE].sharding.spec == PartitionSpec(None, 'tensor')
    assert kernel.is_deleted()


def test_doctor_counts_its_bytes(pair):
    _, small = pair
    options = {
        'mesh': (1, 1, 1), 'adapters': 1, 'rank': 2, 'targets': ('q_proj',), 'batch_size': 1,
        'max_len': 8, 'param_dtype': 'float32', 'dtype': 'float32', 'remat': 'none',
    }  # fmt: skip
    expected = sum(leaf.nbytes for leaf in jax.tree.leaves(small.params))
    assert set(hf_names.shapes(SHAPE)) >= {'layers/q_proj/kernel'}
    assert memory.training_bytes(SHAPE, **options, quantize='int8')['params'] == expected


def test_layers_apart_keep_their_scales(pair):
    _, small = pair
    apart = step_lib.split_layers(small.params)['layers']
    assert apart[0]['q_proj'][quantized.SCALE].shape == (SHAPE.projections['q_proj'][1],)
