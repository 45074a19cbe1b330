"""Rotation, and its frequencies, which are those of transformers to the last bit."""

import dataclasses

import numpy as np
import pytest

from lorajax.models import config as config_lib
from lorajax.models import presets, rope


@pytest.mark.parity
@pytest.mark.parametrize('preset', [presets.QWEN2_5_3B, presets.LLAMA3_2_3B])
def test_frequencies_of_the_3b_models_equal_transformers(preset):
    """One bit in a fifth of them turned position 20000 by up to 1e-3 radians more."""
    pytest.importorskip('torch')
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


def test_rotation_turns_channel_pairs_by_their_angles():
    """Pair (i, i + H / 2) as a complex number times exp(i angle)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 8)).astype(np.float32)
    angle = rng.uniform(0, 6, (2, 3, 4)).astype(np.float32)
    turned = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * angle.astype(np.float64))[:, :, None]
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(rope.rotate(x, angle), expected, rtol=1e-5, atol=1e-5)


def test_scores_depend_on_the_distance_of_positions_alone():
    config = presets.LLAMA3_TINY
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 1, 1, config.head_dim)).astype(np.float32)

    def score(at, to):
        turned = [
            rope.rotate(x, rope.angles(config, np.array([[place]])))
            for x, place in ((q, at), (k, to))
        ]
        return float((turned[0] * turned[1]).sum())

    # float32 angles of a few hundred radians are exact to 3e-5.
    assert score(7, 3) == pytest.approx(score(207, 203), abs=1e-3)
    assert abs(score(7, 3) - score(7, 4)) > 0.01


def test_the_scaling_keeps_short_wavelengths_and_stretches_long_ones():
    scaled = rope.frequencies(presets.LLAMA3_2_3B)
    plain = rope.frequencies(dataclasses.replace(presets.LLAMA3_2_3B, rope_scaling=None))
    wavelength = 2 * np.pi / plain
    np.testing.assert_array_equal(scaled[wavelength < 8192 / 4], plain[wavelength < 8192 / 4])
    np.testing.assert_array_equal(scaled[wavelength > 8192], plain[wavelength > 8192] / 32)
    between = (wavelength >= 8192 / 4) & (wavelength <= 8192)
    assert between.any()
    ratio = (plain / scaled)[between]
    assert (np.diff(ratio) > 0).all() and ratio[0] >= 1 and ratio[-1] <= 32
