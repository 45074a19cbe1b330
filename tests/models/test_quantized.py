"""Kernels of few bits: near the weights they stand for, everywhere that weights are used."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lorajax import lora, models, sharding
from lorajax.errors import InputError
from lorajax.experiment import base_arrays, memory
from lorajax.experiment.config import Experiment
from lorajax.models import decoding, presets, quantized, stacked
from lorajax.models import step as step_lib
from lorajax.models.hf import names as hf_names

SHAPE = dataclasses.replace(presets.QWEN2_TINY, vocab_size=64)


KINDS = (quantized.INT8, quantized.INT4)


@pytest.fixture(scope='module', params=KINDS)
def pair(request):
    """A model, and the same with quantized kernels."""
    plain = models.random_model(SHAPE, jax.random.key(0))
    copy = jax.tree.map(jnp.array, plain.params)
    return plain, dataclasses.replace(plain, params=quantized.quantize(copy, request.param))


def kind_of(model):
    is_int8 = model.params['layers']['q_proj']['kernel'].dtype == jnp.int8
    return quantized.INT8 if is_int8 else quantized.INT4


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


def test_every_group_of_int4_is_near_by_its_own_largest_weight():
    kernel = np.random.default_rng(0).normal(size=(2, 6, 64)).astype(np.float32)
    kernel[0, 3, :32] *= 1000
    kernel[1, 2, 32:] = 0
    entry = quantized.quantize({'layers': {'q_proj': {'kernel': jnp.asarray(kernel)}}}, 'int4')
    entry = jax.tree.map(np.asarray, entry['layers']['q_proj'])
    assert entry['kernel'].dtype == np.uint8 and entry['kernel'].shape == (2, 3, 64)
    assert sum(leaf.nbytes for leaf in entry.values()) == kernel.size * 9 / 16
    dense = quantized.dense(entry['kernel'], entry[quantized.SCALE])
    groups, found = (x.reshape(2, 6, 2, 32) for x in (kernel, dense))
    # Half a step; a whole one for numbers as large as the largest with the other sign, as there
    # are seven steps there; scales are bfloat16.
    step = np.abs(groups).max(axis=-1, keepdims=True) / 8
    assert (np.abs(found - groups) <= step * 1.03).all()
    error = np.linalg.norm(found - groups, axis=-1) / np.linalg.norm(groups, axis=-1).clip(1e-9)
    assert 0.05 < error[error > 0].mean() < 0.1  # 0.085 of many normal numbers
    assert (dense[1, 2, 32:] == 0).all()


def test_logits_are_those_of_the_weights_that_it_stands_for(pair):
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
    # Of two random layers: 0.011 was seen with 8 bits.
    least, most = {'int8': (1e-4, 0.05), 'int4': (0.02, 0.5)}[kind_of(small)]
    assert least < error < most


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
    kernels = base_arrays.kernels(small)
    layers = {
        name: {**{k: v for k, v in entry.items() if k != quantized.SCALE},
               'kernel': jnp.asarray(kernels[name].swapaxes(1, 2))}
        if name in kernels else entry for name, entry in small.params['layers'].items()
    }  # fmt: skip
    small = dataclasses.replace(small, params={**small.params, 'layers': layers})
    expected = jax.grad(loss)(adapter)['layers']['q_proj']['b']
    difference = np.linalg.norm(gradient['layers']['q_proj']['b'] - expected)
    assert difference <= 1e-4 * np.linalg.norm(expected)  # float32, scaled after the sum


def test_a_backward_pass_keeps_the_few_bits():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 64)), jnp.float32)
    for kind in KINDS:
        entry = {k: v[0] for k, v in quantized.quantize_kernel(jnp.array(kernel), kind).items()}
        _, pull = jax.vjp(lambda x, entry=entry: quantized.product(x, entry), jnp.ones((3, 64)))
        kept = sum(leaf.nbytes for leaf in jax.tree.leaves(pull))
        assert kept <= sum(leaf.nbytes for leaf in entry.values())


def test_nothing_is_merged_into_it(pair):
    _, small = pair
    entry = {'a': np.ones((1, 1, 1)), 'b': np.ones((1, 1, 1))}
    with pytest.raises(InputError, match=r'q_proj: its weights are u?int8'):
        lora.merge(small.params, {'layers': {'q_proj': entry}})


@pytest.mark.parametrize('kind', KINDS)
def test_it_lies_as_the_kernel_lay(kind):
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    where = NamedSharding(mesh, PartitionSpec(None, 'tensor', 'fsdp'))
    kernel = jax.device_put(np.ones((2, 4, 8), np.float32), where)
    entry = quantized.quantize_kernel(kernel, kind)
    assert entry['kernel'].sharding == where
    spec = (None, 'tensor', 'fsdp')[: entry[quantized.SCALE].ndim]
    assert entry[quantized.SCALE].sharding.spec == PartitionSpec(*spec)
    assert kernel.is_deleted()


def test_doctor_counts_its_bytes(pair):
    _, small = pair
    experiment = Experiment(mesh=(1, 1, 1), lora_targets=('q_proj',), quantize=kind_of(small))
    expected = sum(leaf.nbytes for leaf in jax.tree.leaves(small.params))
    assert set(hf_names.shapes(SHAPE)) >= {'layers/q_proj/kernel'}
    assert memory.training_bytes(experiment, SHAPE, 1)['params'] == expected


def test_layers_apart_keep_their_scales(pair):
    _, small = pair
    apart = step_lib.split_layers(small.params)['layers']
    whole = small.params['layers']['q_proj'][quantized.SCALE]
    assert apart[0]['q_proj'][quantized.SCALE].shape == whole.shape[1:]
