"""Names of modules, and the rank and scale of each."""

import math

import pytest

from lorajax.lora.config import TARGETS, LoraConfig, module_name


def test_modules_have_the_names_of_transformers():
    assert module_name('v_proj', 3) == 'model.layers.3.self_attn.v_proj'
    assert module_name('down_proj', 12) == 'model.layers.12.mlp.down_proj'


@pytest.mark.parametrize('projection', TARGETS)
def test_the_scale_is_alpha_over_rank_or_its_root(projection):
    assert LoraConfig(rank=8, alpha=12).scale_of(projection, 0) == 1.5
    rooted = LoraConfig(rank=8, alpha=12, use_rslora=True)
    assert rooted.scale_of(projection, 0) == 12 / math.sqrt(8)


def test_patterns_say_rank_and_alpha_of_what_they_match():
    config = LoraConfig(
        rank=4, alpha=8, rank_pattern={'layers.1.self_attn.q_proj': 2, 'q_proj': 16},
        alpha_pattern={r'.*\.mlp\..*': 3},
    )  # fmt: skip
    assert [config.rank_of('q_proj', layer) for layer in (0, 1, 11)] == [16, 2, 16]
    assert config.rank_of('k_proj', 1) == 4
    assert config.scale_of('q_proj', 1) == 4 and config.scale_of('up_proj', 1) == 3 / 4


def test_what_a_file_said_is_neither_compared_nor_printed():
    plain = LoraConfig(rank=4, alpha=8)
    read = LoraConfig(rank=4, alpha=8, file=object())
    assert plain == read and 'file' not in repr(read)
