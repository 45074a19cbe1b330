"""`config.json`: every field that matters is read, of its type, with transformers' defaults."""

import dataclasses
import math

import pytest

from lorajax.errors import InputError
from lorajax.models import config as config_lib
from lorajax.models import presets
from lorajax.models.config import RopeScaling
from lorajax.models.hf import names

ALL = [presets.QWEN2_5_3B, presets.LLAMA3_2_3B, *presets.TINY.values()]


@pytest.mark.parametrize('preset', ALL)
def test_presets_survive_their_own_config_file(preset):
    assert config_lib.from_hf(config_lib.to_hf(preset)) == preset


def changed(preset=presets.LLAMA3_TINY, **changes):
    """The config of a preset's file with fields changed, or taken out where None is given."""
    raw = {**config_lib.to_hf(preset), **changes}
    return config_lib.from_hf({k: v for k, v in raw.items() if v is not None})


NUMBERS = {
    'vocab_size': 90, 'num_hidden_layers': 5, 'hidden_size': 36, 'num_attention_heads': 8,
    'num_key_value_heads': 3, 'head_dim': 10, 'intermediate_size': 72, 'rms_norm_eps': 3e-6,
    'rope_theta': 7e4, 'max_position_embeddings': 77,
}  # fmt: skip
FIELDS = {
    'num_hidden_layers': 'num_layers', 'hidden_size': 'embed_dim',
    'num_attention_heads': 'num_heads', 'num_key_value_heads': 'num_kv_heads',
    'intermediate_size': 'mlp_dim', 'rms_norm_eps': 'norm_eps',
    'max_position_embeddings': 'max_positions',
}  # fmt: skip


@pytest.mark.parametrize('name', NUMBERS)
def test_every_number_of_the_file_arrives(name):
    value, field = NUMBERS[name], FIELDS.get(name, name)
    expected = dataclasses.replace(presets.LLAMA3_TINY, **{field: value})
    assert getattr(presets.LLAMA3_TINY, field) != value
    assert changed(**{name: value}) == expected


@pytest.mark.parametrize('name', [*NUMBERS, 'tie_word_embeddings'])
def test_a_field_of_another_type_is_refused(name):
    values = ['4', [4], {}, 1e39, float('nan'), -1]
    values += [] if name == 'tie_word_embeddings' else [True, False]
    values += [] if name in ('rms_norm_eps', 'rope_theta') else [2.5]
    for value in values:
        with pytest.raises(InputError, match=f'^config.json: {name} is .*, expected '):
            changed(**{name: value})


SCALING = dict(rope_type='llama3', factor=16.0, low_freq_factor=2.0, high_freq_factor=8.0,
               original_max_position_embeddings=128)  # fmt: skip


@pytest.mark.parametrize('name', ['rope_scaling', 'rope_parameters'])
def test_rope_scaling_stands_under_the_old_or_the_new_key(name):
    config = changed(**{'rope_scaling': None, name: SCALING})
    assert config.rope_scaling == RopeScaling(16.0, 2.0, 8.0, 128)
    assert changed(rope_scaling={'type': 'default'}).rope_scaling is None


@pytest.mark.parametrize('name', SCALING)
def test_a_number_of_the_scaling_of_another_type_is_refused(name):
    for value in ('4', True, [4], -1.0):
        with pytest.raises(InputError, match=f'^config.json: {name} is .*, expected '):
            changed(rope_scaling={**SCALING, name: value})


HARMLESS = {
    'epsilon left out': ('llama', dict(rms_norm_eps=None)),
    'swish': ('llama', dict(hidden_act='swish')),
    'qwen2 that says it has no biases': ('qwen2', dict(attention_bias=False)),
    'no key/value heads': ('llama', dict(num_key_value_heads=None)),
    'no head width': ('llama', dict(head_dim=None)),
    'no tying': ('qwen2', dict(tie_word_embeddings=None)),
    'no base': ('llama', dict(rope_theta=None, rope_scaling=None)),
    'both keys of the scaling': ('llama', dict(rope_scaling=SCALING, rope_parameters={
        **SCALING, 'factor': 4.0, 'rope_theta': 123.0})),
    'a length beside the scaling': ('llama', dict(rope_scaling=SCALING,
                                                  original_max_position_embeddings=64)),
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize('name', HARMLESS)
def test_what_is_left_out_means_what_it_means_in_transformers(name):
    transformers = pytest.importorskip('transformers')
    family, changes = HARMLESS[name]
    preset = presets.QWEN2_TINY if family == 'qwen2' else presets.LLAMA3_TINY
    raw = {**config_lib.to_hf(preset), **changes}
    raw = {key: value for key, value in raw.items() if value is not None}
    ours = config_lib.from_hf(dict(raw))
    theirs = transformers.AutoConfig.for_model(**raw)
    theirs.standardize_rope_params()  # as the model does when it computes its frequencies
    assert ours.norm_eps == theirs.rms_norm_eps
    assert ours.num_kv_heads == theirs.num_key_value_heads
    assert ours.tie_embeddings == theirs.tie_word_embeddings
    width = theirs.hidden_size // theirs.num_attention_heads
    assert ours.head_dim == getattr(theirs, 'head_dim', width)
    rope = theirs.rope_parameters
    assert ours.rope_theta == rope['rope_theta']
    assert (ours.rope_scaling is None) == (rope['rope_type'] == 'default')
    if ours.rope_scaling:
        assert dataclasses.asdict(ours.rope_scaling) == {
            key: rope[key] for key in dataclasses.asdict(ours.rope_scaling)
        }


GEMMA = {
    'pattern by number': dict(layer_types=None, sliding_window_pattern=3),
    'bases by kind of layer': dict(rope_theta=None, rope_local_base_freq=None, rope_scaling=None,
        rope_parameters={
            'sliding_attention': dict(rope_type='default', rope_theta=1e4),
            'full_attention': dict(rope_type='linear', factor=8.0, rope_theta=1e6),
        }),
    'bases left out': dict(rope_theta=None, rope_local_base_freq=None),
    'tying left out': dict(tie_word_embeddings=None),
}  # fmt: skip


@pytest.mark.parametrize('name', GEMMA)
def test_a_gemma_is_the_same_in_either_style(name):
    assert changed(presets.GEMMA3_TINY, **GEMMA[name]) == presets.GEMMA3_TINY


def test_windows_are_read_as_transformers_reads_them():
    assert changed(presets.MISTRAL_TINY, sliding_window=None).sliding_window == 4096
    raw = {**config_lib.to_hf(presets.MISTRAL_TINY), 'sliding_window': None}
    config = config_lib.from_hf(raw)
    assert config.sliding_window is None and not config.has_window(0)
    assert [presets.GEMMA3_TINY.has_window(layer) for layer in range(4)] == [
        True, True, False, True
    ]  # fmt: skip
    layers = ['sliding_attention'] * 2 + ['full_attention']
    assert changed(presets.GEMMA2_TINY, layer_types=layers).window_pattern == (True, True, False)
    assert changed(presets.GEMMA2_TINY, attn_logit_softcapping=None).attention_softcap == 50.0


@pytest.mark.parametrize(('family', 'changes', 'message'), [
    ('gemma2', dict(layer_types=['full_attention']), 'layer_types has 1 entries, expected num'),
    ('gemma2', dict(hidden_activation='gelu'), "hidden_activation is 'gelu', expected 'gelu_pyt"),
    ('gemma3_text', dict(attn_logit_softcapping=5.0), 'attn_logit_softcapping is 5.0, expected'),
    ('gemma3_text', dict(use_bidirectional_attention=True), 'use_bidirectional_attention is true'),
    ('mistral', dict(layer_types=['full_attention'] * 3), 'layer_types are full_attention, exp'),
    ('qwen3', dict(use_sliding_window=True), 'use_sliding_window is true, expected false'),
    ('qwen3', dict(layer_types=['sliding_attention'] * 3), 'layer_types are sliding_attention'),
    ('llama', dict(model_type='gemma3'), "model_type is 'gemma3', expected 'qwen2' or 'qwen3' or"),
])  # fmt: skip
def test_what_a_family_does_not_do_is_refused(family, changes, message):
    with pytest.raises(InputError, match=f'^config.json: {message}'):
        changed(presets.TINY[family], **changes)


def test_counts_of_parameters_are_those_of_the_tree():
    for preset in ALL:
        assert preset.num_params == sum(map(math.prod, names.shapes(preset).values()))
