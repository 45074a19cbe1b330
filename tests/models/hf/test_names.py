"""The table of names: complete, one to one, and found however a file spells them."""

import dataclasses
import itertools
import time

import pytest

from lorajax.models import presets
from lorajax.models.hf import names
from lorajax.models.hf.names import Target

CONFIGS = [
    presets.QWEN2_TINY,
    presets.LLAMA3_TINY,
    presets.QWEN3_TINY,
    presets.GEMMA2_TINY,
    presets.GEMMA3_TINY,
    dataclasses.replace(presets.QWEN2_TINY, tie_embeddings=False),
]


@pytest.mark.parametrize('config', CONFIGS)
def test_each_row_is_found_again_and_leads_to_a_leaf_of_its_own(config):
    rows = dict(names.table(config))
    assert names.num_tensors(config) == len(rows) == len(set(rows.values()))
    assert {target.path for target in rows.values()} == names.shapes(config).keys()
    for name, target in rows.items():
        assert names.find(name, config) == target
        if name.startswith('model.'):
            assert names.find(name.removeprefix('model.'), config) == target


@pytest.mark.parametrize('config', CONFIGS)
def test_shapes_of_tensors_are_those_of_leaves_without_the_layers(config):
    tensors = names.tensor_shapes(config)
    for path, shape in names.shapes(config).items():
        expected = shape[1:] if path.startswith('layers/') else shape
        assert tensors[path] == expected
    assert tensors['lm_head/kernel'] == tensors['embed/embedding']


@pytest.mark.parity
@pytest.mark.parametrize('family', presets.TINY)
@pytest.mark.parametrize('tied', [True, False])
def test_names_and_shapes_are_those_of_transformers(tmp_path, family, tied):
    pytest.importorskip('torch')
    from lorajax.models import config as config_lib
    from tests.models import reference

    theirs = reference.make(tmp_path, family, tied)
    config = config_lib.read(tmp_path)
    rows, shapes = dict(names.table(config)), names.tensor_shapes(config)
    state = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    if tied:
        del state['lm_head.weight']
    assert {name: shapes[target.path] for name, target in rows.items()} == state


@pytest.mark.parametrize('name', [
    'model.layers.3.mlp.up_proj.weight', 'model.layers.00.mlp.up_proj.weight',
    'model.layers.-1.mlp.up_proj.weight', 'model.layers.1.mlp.up_proj.bias',
    'model.layers.1.mlp.up_proj.weight ', 'model.layers.9999999999.mlp.up_proj.weight',
    'model.layers.\u0661.mlp.up_proj.weight', 'model.model.norm.weight', 'head.weight', '',
])  # fmt: skip
def test_other_names_have_no_place(name):
    assert names.find(name, presets.QWEN2_TINY) is None


def test_biases_have_a_place_in_qwen2_alone():
    name = 'model.layers.1.self_attn.q_proj.bias'
    assert names.find(name, presets.QWEN2_TINY) == Target('layers/q_proj/bias', 1)
    assert names.find(name, presets.LLAMA3_TINY) is None


@pytest.mark.parametrize('name', [
    'model.layers.0.self_attn.rotary_emb.inv_freq', 'rotary_emb.inv_freq',
    'model.layers.0.self_attn.masked_bias', 'model.rotary_emb.cos_cached',
])  # fmt: skip
def test_buffers_are_known_as_such(name):
    assert names.is_buffer(name)
    assert not names.is_buffer(name + 's')


def test_what_a_config_claims_costs_nothing():
    config = dataclasses.replace(presets.QWEN2_TINY, num_layers=2_000_000_000)
    start = time.process_time()
    assert names.num_tensors(config) == 24_000_000_002
    assert len(list(itertools.islice(names.table(config), 100))) == 100
    assert names.find('model.layers.999999999.input_layernorm.weight', config) is not None
    assert time.process_time() - start < 1
