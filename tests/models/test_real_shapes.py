"""The ports at the layer shapes of real models; every constant matters."""

import dataclasses
import functools
import pathlib
import tempfile

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
NAMES = ('Qwen2.5-0.5B', 'Qwen2.5-3B', 'Llama-3.2-3B')
SMALL = dict(
    vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=8,
    num_key_value_heads=2, head_dim=16, intermediate_size=96,
)  # fmt: skip


@pytest.mark.parametrize('name', NAMES)  # all sizes, all layers: benchmarks/real_shapes.py
def test_real_layer_shapes_equal_transformers_and_peft(tmp_path, name):
    config = shapes.write(tmp_path, name, num_hidden_layers=2, vocab_size=256)
    expected = compare.expect(tmp_path, config)
    model = models.load_model(str(tmp_path))
    actual = compare.compute(model)
    found = compare.differences(actual, expected)
    assert {item: value for item, value in found.items() if not value <= TOLERANCE} == {}
    if name == 'Qwen2.5-0.5B':
        found = compare.differences(compare.compute(model, jnp.bfloat16), actual)
        # Eight bits of mantissa, a few roundings a layer: 1e-2 measured on logits.
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
    rows = (order[:, None] * c.head_dim + np.arange(c.head_dim)).reshape(-1)
    layers = dict(model.params['layers'])
    layers['q_proj'] = {name: leaf[:, rows] for name, leaf in layers['q_proj'].items()}
    layers['o_proj'] = {'kernel': layers['o_proj']['kernel'][..., rows]}
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


# The masks are the same code in both families, so one of them shows that they matter.
CASES = [
    (family, name)
    for family in ('Qwen2.5-3B', 'Llama-3.2-3B')
    for name in MUTATIONS
    if name in ('theta', 'epsilon', 'head order')
    or name.startswith('mask') == (family == 'Qwen2.5-3B')
]


@functools.cache
def small(name):
    """A small checkpoint with one model's constants: its port, and what torch makes of it."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        config = shapes.write(directory, name, **SMALL)
        return models.load_model(str(directory)), compare.expect(directory, config)


@pytest.mark.parametrize('family', ['Qwen2.5-3B', 'Llama-3.2-3B'])
def test_the_unchanged_port_is_green(family):
    model, expected = small(family)
    found = compare.differences(compare.compute(model), expected)
    assert max(found.values()) <= TOLERANCE, found


@pytest.mark.parametrize(('family', 'name'), CASES)
def test_a_wrong_constant_turns_the_comparison_red(monkeypatch, family, name):
    model, expected = small(family)
    mutate = MUTATIONS[name]
    if name == 'epsilon':
        mutate = change(norm_eps={1e-6: 1e-5, 1e-5: 1e-6}[model.config.norm_eps])
    mutant = mutate(model, monkeypatch)
    actual = compare.compute(mutant, adapter=False)
    found = compare.differences(actual, {item: expected[item] for item in actual})
    item = max(found, key=found.get)
    print(f'| {model.config.family} | {name} | {item} | {found[item] / TOLERANCE:.0f} |')
    assert found[item] > 20 * TOLERANCE
