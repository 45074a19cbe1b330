"""The presets are the published models."""

import pytest

from lorajax.models import config as config_lib
from lorajax.models import presets
from tests.models import shapes


def test_parameter_counts_of_the_3b_presets():
    # The hub's model cards: 3.09 billion and 3.21 billion.
    assert presets.QWEN2_5_3B.num_params == 3_085_938_688
    assert presets.LLAMA3_2_3B.num_params == 3_212_749_824


@pytest.mark.parametrize(
    ('preset', 'name'),
    [(presets.QWEN2_5_3B, 'Qwen2.5-3B'), (presets.LLAMA3_2_3B, 'Llama-3.2-3B')],
)
def test_the_3b_presets_are_their_config_files(preset, name):
    assert config_lib.from_hf(shapes.REAL[name]) == preset


def test_the_tiny_presets_have_what_their_families_have():
    for tiny, real in (
        (presets.QWEN2_TINY, presets.QWEN2_5_3B),
        (presets.LLAMA3_TINY, presets.LLAMA3_2_3B),
    ):
        assert (tiny.family, tiny.qkv_bias, tiny.norm_eps, tiny.rope_theta) == (
            real.family, real.qkv_bias, real.norm_eps, real.rope_theta
        )  # fmt: skip
        assert (tiny.rope_scaling is None) == (real.rope_scaling is None)
        assert tiny.num_kv_heads < tiny.num_heads
