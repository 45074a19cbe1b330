"""The decoder at the layer shapes of real models, equal to transformers; every constant matters."""

import dataclasses
import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import models
from lorajax.models import presets, transformer
from lorajax.models.hf import names as hf_names
from lorajax.models.transformer import Transformer
from lorajax.sharding import spec

pytest.importorskip('torch')
pytest.importorskip('peft')
from tests.models import compare, shapes
from tests.models.identities import random_adapter, tokens_for

TOLERANCE = 2e-5  # of the largest value; float32, sums of up to 18944 terms
NAMES = ('Qwen2.5-0.5B', 'Qwen2.5-3B', 'Llama-3.2-3B')
SMALL = dict(
    vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=8,
    num_key_value_heads=2, head_dim=16, intermediate_size=96,
)  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize('name', NAMES)  # all sizes, all layers: benchmarks/real_shapes.py
def test_real_layer_shapes_equal_transformers_and_peft(tmp_path, name):
    config = shapes.write(tmp_path, name, num_hidden_layers=2, vocab_size=256)
    expected = compare.expect(tmp_path, config)
    model = models.load_model(str(tmp_path))
    actual = compare.compute(model)
    errors = compare.differences(actual, expected)
    assert {item: value for item, value in errors.items() if not value <= TOLERANCE} == {}
    if name == 'Qwen2.5-0.5B':
        half = compare.compute(model, jnp.bfloat16, (compare.NEAR, compare.ADAPTER))
        errors = compare.differences(half, {item: actual[item] for item in half})
        # Eight bits of mantissa, a few roundings a layer: 1e-2 measured on logits.
        assert errors['logits, padded left and right'] <= 3e-2
        assert errors['loss with adapter'] <= 1e-2


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
    monkeypatch.setattr(transformer, 'causal_mask', lambda segments, _: wrong(right, segments))
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


ROTATIONS = ('theta', 'no frequency scaling', 'scaling factor')

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


@pytest.mark.parity
@pytest.mark.parametrize('family', ['Qwen2.5-3B', 'Llama-3.2-3B'])
def test_the_unchanged_port_is_green(family):
    model, expected = small(family)
    errors = compare.differences(compare.compute(model), expected)
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parity
@pytest.mark.parametrize(('family', 'name'), CASES)
def test_a_wrong_constant_turns_the_comparison_red(monkeypatch, family, name):
    model, expected = small(family)
    mutate = MUTATIONS[name]
    if name == 'epsilon':
        mutate = change(norm_eps={1e-6: 1e-5, 1e-5: 1e-6}[model.config.norm_eps])
    mutant = mutate(model, monkeypatch)
    # What turns with positions shows most where they are large.
    part = compare.FAR if name in ROTATIONS else compare.NEAR
    actual = compare.compute(mutant, parts=(part,))
    errors = compare.differences(actual, {item: expected[item] for item in actual})
    item = max(errors, key=errors.get)
    print(f'| {model.config.family} | {name} | {item} | {errors[item] / TOLERANCE:.0f} |')
    assert errors[item] > 20 * TOLERANCE


def test_every_parameter_has_its_axes():
    for config in (presets.QWEN2_5_3B, presets.LLAMA3_2_3B, *presets.TINY.values()):
        for path, shape in hf_names.shapes(config).items():
            axes = transformer.PARAM_AXES[path]
            assert len(axes) == len(shape), path
            spec(axes)


@pytest.mark.parametrize(
    'preset',
    [presets.QWEN2_TINY, presets.LLAMA3_TINY, presets.QWEN3_TINY, presets.GEMMA2_TINY],
    ids=lambda preset: preset.family,
)
def test_the_tree_of_a_fresh_model_has_the_shapes_of_the_table(preset):
    model = models.random_model(preset, jax.random.key(0))
    tree = {
        '/'.join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.params)
    }
    assert tree == hf_names.shapes(preset)
    assert tree.keys() <= transformer.PARAM_AXES.keys()


def test_scanned_layers_equal_layers_one_after_the_other():
    model = models.random_model(presets.LLAMA3_TINY, jax.random.key(0))
    tokens = tokens_for(model.config)
    ones = jnp.ones_like(tokens)
    adapter = random_adapter(model.config, 1)
    x = model.params['embed']['embedding'][tokens]
    block = transformer.Block(model.config, jnp.float32)
    mask = transformer.causal_mask(ones)
    angle = transformer.rope.angles(model.config, transformer.positions_of(ones))
    for layer in range(model.config.num_layers):
        variables = {
            'params': jax.tree.map(lambda leaf, i=layer: leaf[i], model.params['layers']),
            'lora': jax.tree.map(lambda leaf, i=layer: leaf[i], adapter['layers']),
        }
        x, _ = block.apply(variables, x, None, angle, mask, None)
    expected = transformer.RMSNorm(model.config.norm_eps, jnp.float32).apply(
        {'params': model.params['final_norm']}, x
    )
    variables = {'params': model.params, 'lora': adapter}
    hidden, _ = model.module.apply(variables, tokens, ones)
    # The same float32 operations, fused otherwise.
    np.testing.assert_allclose(hidden, expected, rtol=1e-4, atol=1e-5)


def test_remat_changes_memory_not_results():
    model = models.random_model(presets.QWEN2_TINY, jax.random.key(0))
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


@pytest.mark.parametrize('tied', [True, False])
def test_logits_are_products_with_the_rows_of_the_head(tied):
    rng = np.random.default_rng(0)
    embedding, head = rng.normal(size=(2, 11, 6)).astype(np.float32)
    hidden = rng.normal(size=(2, 3, 6)).astype(np.float32)
    params = {'embed': {'embedding': embedding}} | ({} if tied else {'lm_head': {'kernel': head}})
    expected = np.einsum('btd,vd->btv', hidden.astype(np.float64), embedding if tied else head)
    logits = transformer.unembed(params, jnp.asarray(hidden))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert transformer.unembed(params, jnp.bfloat16(hidden)).dtype == jnp.float32
