"""The rotation frequencies are those of transformers, to the last bit."""

import numpy as np
import pytest

from lorajax.models import config as config_lib
from lorajax.models import presets, rope

torch = pytest.importorskip('torch')


@pytest.mark.parity
@pytest.mark.parametrize('preset', [presets.QWEN2_5_3B, presets.LLAMA3_2_3B])
def test_frequencies_of_the_3b_models_equal_transformers(preset):
    """One bit in a fifth of them turned position 20000 by up to 1e-3 radians more."""
    from transformers import LlamaConfig, Qwen2Config
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

    raw = config_lib.to_hf(preset)
    if preset.family == 'qwen2':
        theirs = Qwen2RotaryEmbedding(Qwen2Config(**raw)).inv_freq.numpy()
    else:
        theirs = LlamaRotaryEmbedding(LlamaConfig(**raw)).inv_freq.numpy()
    ours = rope.frequencies(preset)
    # torch's vectorised power errs in the last bit of one; its scalar power does not.
    assert (ours != theirs).sum() <= 1
    assert np.abs(ours - theirs).max() * 20_000 < 1e-6  # radians
