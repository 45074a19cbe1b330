"""Which modules are adapted, and with what rank, asked of peft itself."""

import itertools

import pytest

from lorajax import lora
from lorajax.lora.config import module_name
from lorajax.lora.peft import schema

peft = pytest.importorskip('peft')
from peft.tuners.tuners_utils import check_target_module_exists  # noqa: E402
from peft.utils.other import get_pattern_key  # noqa: E402

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
