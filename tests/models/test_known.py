"""Built-in shapes are those of the checkpoints that parity is measured on."""

import pytest

from lorajax.models import config as config_lib
from lorajax.models import known
from tests.models import shapes


@pytest.mark.parametrize('name', shapes.REAL)
def test_shapes_are_those_of_the_real_models(name):
    real, found = config_lib.from_hf(shapes.REAL[name]), known.find(f'owner/{name}')
    assert found.projections == real.projections and found.num_params == real.num_params
    same = ('family', 'num_layers', 'num_heads', 'num_kv_heads', 'head_dim', 'vocab_size')
    assert all(getattr(found, field) == getattr(real, field) for field in same)


def test_tuned_versions_and_uploads_of_others_are_known_and_no_other():
    for name, plain in (
        ('Qwen/Qwen2.5-3B-Instruct', 'Qwen2.5-3B'),
        ('meta-llama/Meta-Llama-3.1-8B-Instruct', 'Llama-3.1-8B'),
        ('unsloth/gemma-2-2b-it', 'gemma-2-2b'),
        ('mistralai/Mistral-7B-Instruct-v0.3', 'Mistral-7B-v0.3'),
    ):
        assert known.find(name) == known.find(plain) and plain in known.NAMES
    assert known.find('Qwen/Qwen2.5-3B-Coder') is None and known.find('toy-source') is None
