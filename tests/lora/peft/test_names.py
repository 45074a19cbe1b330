"""Names of tensors, as peft gives them and as other programs do."""

import itertools

import pytest

from lorajax.lora import TARGETS
from lorajax.lora.peft import names

NAME = 'base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight'


def test_every_factor_has_its_name():
    for factor in itertools.product(TARGETS, (0, 9, 10, 127), 'AB'):
        assert names.parse(names.tensor_name(factor)) == ('model.', factor)
    assert names.tensor_name(('q_proj', 3, 'A')) == NAME
    assert names.bare_name(('down_proj', 2)) == 'layers.2.mlp.down_proj'


@pytest.mark.parametrize(
    ('name', 'prefix'),
    [
        (NAME.replace('.weight', '.default.weight'), 'model.'),
        (NAME.removeprefix('base_model.model.'), 'model.'),
        (NAME.removeprefix('base_model.model.model.'), ''),
        (NAME.replace('base_model.model.model.', 'base_model.model.'), ''),
    ],
)
def test_other_spellings_are_the_same_factor(name, prefix):
    assert names.parse(name) == (prefix, ('q_proj', 3, 'A'))


@pytest.mark.parametrize(
    'name',
    [
        '',
        NAME + '.',
        NAME.replace('lora_A', 'lora_C'),
        NAME.replace('self_attn', 'mlp'),
        NAME.replace('.3.', '.-3.'),
        NAME.replace('.3.', '.' + '9' * 5000 + '.'),
        NAME.replace('.3.', '.٣.'),
        NAME.replace('q_proj', 'qkv_proj'),
        NAME.replace('.weight', '.bias'),
        'base_model.model.lm_head.lora_A.weight',
    ],
)
def test_other_tensors_are_no_factors(name):
    assert names.parse(name) is None
