"""Which modules are adapted, and with what rank, asked of peft itself."""

import dataclasses
import itertools
import json

import pytest

from lorajax import lora
from lorajax.errors import InputError
from lorajax.lora.config import module_name
from lorajax.lora.peft import schema

peft = pytest.importorskip('peft')
from peft.tuners.tuners_utils import check_target_module_exists  # noqa: E402
from peft.utils.other import get_pattern_key  # noqa: E402

from tests.lora import refusals  # noqa: E402

MODULES = [
    prefix + module_name(projection, layer).removeprefix('model.')
    for prefix in ('model.', '')
    for projection, layer in itertools.product(lora.TARGETS, (0, 1, 2, 10, 11))
]
SELECTIONS = [
    dict(target_modules=['q_proj', 'mlp.up_proj']),
    dict(target_modules=['proj', 'o_proj']),
    dict(target_modules=['model.layers.1.self_attn.q_proj', 'layers.0.mlp.up_proj']),
    dict(target_modules=['1.self_attn.k_proj', 'k_proj'], layers_to_transform=[1]),
    dict(target_modules=list(lora.TARGETS), layers_to_transform=1),
    dict(target_modules=list(lora.TARGETS), layers_to_transform=[0, 11], layers_pattern='layers'),
    dict(
        target_modules=list(lora.TARGETS), layers_to_transform=[0], layers_pattern=['h', 'layers']
    ),
    dict(target_modules=list(lora.TARGETS), layers_to_transform=[]),
    dict(target_modules=list(lora.TARGETS), exclude_modules=['q_proj', 'layers.1.mlp.up_proj']),
    dict(target_modules=['q_proj', 'v_proj'], exclude_modules=r'.*layers\.1.*'),
    dict(target_modules=r'.*\.(q|v)_proj'),
    dict(target_modules=r'model\.layers\.[01]\..*'),
    dict(target_modules=r'layers\.1'),
]
PATTERNS = [
    {'q_proj': 1},
    {'layers.1.self_attn.q_proj': 1, 'q_proj': 2},
    {'^model.layers.1.mlp.up_proj': 1, r'layers\.\d+\.mlp\..*': 3},
    {r'.*(up|down)_proj': 1, 'model.layers.0.mlp.down_proj': 2},
    {'proj': 1, '^model.layers.1': 2, 'self_attn.k_proj': 3},
]


@pytest.mark.parity
@pytest.mark.parametrize('options', SELECTIONS)
def test_the_same_modules_are_adapted(options):
    theirs = peft.LoraConfig(**options)
    for name in MODULES:
        expected = check_target_module_exists(theirs, name)
        is_excluded = type(expected).__name__ == '_ExcludedModule'
        found = schema.is_targeted(options, name)
        assert found == (bool(expected) and not is_excluded), name


@pytest.mark.parity
@pytest.mark.parametrize('pattern', PATTERNS)
def test_the_same_entry_of_a_pattern_counts(pattern):
    config = lora.LoraConfig(rank=9, alpha=9, rank_pattern=pattern, alpha_pattern=pattern)
    for projection, layer in itertools.product(lora.TARGETS, (0, 1, 11)):
        name = module_name(projection, layer)
        expected = pattern.get(get_pattern_key(pattern.keys(), name), 9)
        assert config.rank_of(projection, layer) == expected
        assert config.scale_of(projection, layer) == 1


def test_all_linear_is_all_projections():
    assert all(schema.is_targeted({'target_modules': 'All-Linear'}, name) for name in MODULES)


def test_every_field_of_peft_is_known_and_others_are_named(tmp_path, caplog):
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert fields == schema.KNOWN
    refusals.write_valid(tmp_path)
    path = tmp_path / refusals.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), 'use_new': True, 'off': False}))
    with caplog.at_level('WARNING', logger='absl'):
        assert refusals.read(tmp_path) == 'accepted'
    assert f'{path}: unknown field use_new is ignored' in caplog.text


def write_config(path, **changes):
    """Writes an adapter_config.json with some fields changed."""
    raw = {'peft_type': 'LORA', 'r': 4, 'lora_alpha': 8, 'target_modules': ['q_proj'], **changes}
    path.write_text(json.dumps(raw))
    return path


@pytest.mark.parametrize('value', ['x', 7, 1.5, True, [], [7], ['x'], {}, {'x': 7}, {'x': 'y'}])
def test_every_field_is_one_line_or_a_config_whatever_it_holds(tmp_path, value):
    for name in sorted(schema.KNOWN | {'unknown'}):
        path = write_config(tmp_path / 'adapter_config.json', **{name: value})
        try:
            config, _ = schema.read(path)
        except InputError as error:
            assert str(error).startswith(f'{path}: ') and '\n' not in str(error)
        else:
            assert type(config.use_rslora) is bool and isinstance(config.dropout, int | float)
            assert config.base_model is None or isinstance(config.base_model, str)
            config.scale_of('q_proj', 0)
            schema.content(config, None)


def test_null_is_the_same_as_absent(tmp_path):
    needed = {'peft_type', 'r', 'lora_alpha'}
    nulls = dict.fromkeys(schema.KNOWN - needed)
    config, _ = schema.read(write_config(tmp_path / 'x', **nulls))
    assert config == lora.LoraConfig(rank=4, alpha=8)


def test_the_number_of_a_layer_is_the_last_group_of_its_expression(tmp_path):
    """Also where the pattern has groups of its own."""
    raw = dict(target_modules=['q_proj'], layers_to_transform=[1], layers_pattern='(h|layers)')
    found = [layer for layer in (0, 1, 11) if schema.is_targeted(raw, module_name('q_proj', layer))]
    assert found == [1]


def test_what_is_written_reads_as_the_same_config(tmp_path):
    config = lora.LoraConfig(
        rank=3, alpha=2.5, use_rslora=True, rank_pattern={'q_proj': 2}, alpha_pattern={'up': 7},
        layers=(0, 2), dropout=0.1, base_model='owner/name@v1',
    )  # fmt: skip
    path = tmp_path / 'adapter_config.json'
    path.write_text(json.dumps(schema.content(config, None)))
    assert schema.read(path)[0] == config
    assert peft.LoraConfig.from_pretrained(tmp_path).r == 3
