"""The ports at the layer shapes of real models; every constant matters."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import models
from lorajax.models import transformer

pytest.importorskip('torch')
pytest.importorskip('peft')
from tests.models import compare, shapes

pytestmark = pytest.mark.parity
TOLERANCE = 2e-5  # of the largest value; float32, sums of up to 18944 terms
DEPTHS = {'Qwen2.5-0.5B': 1, 'Qwen2.5-3B': 2, 'Llama-3.2-3B': 2}
SMALL = dict(
    vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=8,
    num_key_value_heads=2, head_dim=16, intermediate_size=96,
)  # fmt: skip


@pytest.mark.parametrize('name', DEPTHS)  # all sizes: benchmarks/real_shapes.py
def test_real_layer_shapes_equal_transformers_and_peft(tmp_path, name):
    depth = DEPTHS[name]
    config = shapes.write(tmp_path, name, num_hidden_layers=depth, vocab_size=256)
    expected = compare.expect(tmp_path, config)
    actual = compare.compute(models.load_model(str(tmp_path)))
    found = compare.differences(actual, expected)
    assert {item: value for item, value in found.items() if not value <= TOLERANCE} == {}


def test_bfloat16_stays_near_float32(tmp_path):
    shapes.write(tmp_path, 'Qwen2.5-3B', num_hidden_layers=2, vocab_size=256)
    model = models.load_model(str(tmp_path))
    found = compare.differences(compare.compute(model, jnp.bfloat16), compare.compute(model))
    # Eight bits of mantissa, a few roundings a layer: 1.1e-2 measured on logits.
    assert found['logits, padded left and right'] <= 3e-2
    assert found['loss with adapter'] <= 1e-2


def change(**fields):
    """A port whose config has other constants."""

    def mutate(model, monkeypatch):
        del monkeypatch
        config = dataclasses.replace(model.config, **fields)
        return dataclasses.replace(model, config=config, module=model.module.clone(config=config))

    return mutate


def scale_rope(model, monkeypatch):
    """A port that takes the scaling factor of Llama 3.1 (8) for that of 3.2 (32)."""
    scaling = dataclasses.replace(model.config.rope_scaling, factor=8.0)
    return change(rope_scaling=scaling)(model, monkeypatch)


def swap_heads(model, monkeypatch):
    """A port that groups query heads as [G, K] where they are [K, G]."""
    del monkeypatch
    c = model.config
    order = np.arange(c.num_heads).reshape(c.num_kv_heads, -1).T.reshape(-1)
    columns = (order[:, None] * c.head_dim + np.arange(c.head_dim)).reshape(-1)
    layers = dict(model.params['layers'])
    layers['q_proj'] = {name: leaf[..., columns] for name, leaf in layers['q_proj'].items()}
    layers['o_proj'] = {'kernel': layers['o_proj']['kernel'][:, columns]}
    return dataclasses.replace(model, params={**model.params, 'layers': layers})


def patch_mask(wrong, model, monkeypatch):
    """A port with another mask."""
    right = transformer.causal_mask
    monkeypatch.setattr(transformer, 'causal_mask', lambda segments: wrong(right, segments))
    return model


MASKS = {
    'mask: sees the next token': lambda right, s: jnp.roll(right(s), -1, axis=1) | right(s),
    'mask: not itself': lambda right, s: right(s) & ~jnp.eye(s.shape[1], dtype=bool),
    'mask: padding is seen': lambda right, s: right(jnp.ones_like(s)),
    'mask: packed rows see each other': lambda right, s: right((s > 0).astype(jnp.int32)),
}
MUTATIONS = {
    'theta': change(rope_theta=1e5),
    'epsilon': None,  # by family, below
    'no frequency scaling': change(rope_scaling=None),
    'scaling factor': scale_rope,
    'head order': swap_heads,
    **{name: functools.partial(patch_mask, wrong) for name, wrong in MASKS.items()},
}


@pytest.fixture(scope='module', params=['Qwen2.5-3B', 'Llama-3.2-3B'])
def small(request, tmp_path_factory):
    """A small checkpoint with one model's constants, its port, and what torch makes of it."""
    directory = tmp_path_factory.mktemp('small')
    config = shapes.write(directory, request.param, **SMALL)
    return models.load_model(str(directory)), compare.expect(directory, config)


def test_the_unchanged_port_is_green(small):
    model, expected = small
    found = compare.differences(compare.compute(model), expected)
    assert max(found.values()) <= TOLERANCE, found


@pytest.mark.parametrize('name', MUTATIONS)
def test_a_wrong_constant_turns_the_comparison_red(small, monkeypatch, name):
    model, expected = small
    if 'scaling' in name and model.config.rope_scaling is None:
        return  # the family has none
    mutate = MUTATIONS[name]
    if name == 'epsilon':
        mutate = change(norm_eps={1e-6: 1e-5, 1e-5: 1e-6}[model.config.norm_eps])
    mutant = mutate(model, monkeypatch)
    actual = compare.compute(mutant, gradients=False)
    found = compare.differences(actual, {item: expected[item] for item in actual})
    item = max(found, key=found.get)
    print(f'| {model.config.family} | {name} | {item} | {found[item] / TOLERANCE:.0f} |')
    assert found[item] > 20 * TOLERANCE
