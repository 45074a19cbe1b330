"""Parity of the ports with `transformers`."""

import numpy as np
import pytest

from lorajax import models

torch = pytest.importorskip('torch')
from tests.models import reference  # noqa: E402

pytestmark = pytest.mark.parity
FAMILIES = [('qwen2', True), ('qwen2', False), ('llama', True), ('llama', False)]


def padded_batch(rng, sides):
    """Random tokens and a mask with padding on the given side of each row."""
    tokens = rng.integers(3, 101, (len(sides), 40)).astype(np.int32)
    mask = np.ones_like(tokens)
    for row, side in enumerate(sides):
        if side == 'left':
            mask[row, : 5 + 3 * row] = 0
        elif side == 'right':
            mask[row, -5 - 3 * row :] = 0
    return tokens, mask


@pytest.mark.parametrize(('family', 'tied'), FAMILIES)
def test_logits_equal_transformers(tmp_path, family, tied):
    expected_model = reference.make(tmp_path, family, tied)
    model = models.load_model(str(tmp_path))
    tokens, mask = padded_batch(np.random.default_rng(0), ['none', 'left', 'right', 'left'])
    with torch.no_grad():
        positions = np.maximum(np.cumsum(mask, -1) - 1, 0)
        expected = expected_model(
            torch.tensor(tokens.astype(np.int64)),
            attention_mask=torch.tensor(mask),
            position_ids=torch.tensor(positions),
        ).logits.numpy()
    actual = np.asarray(model.logits(tokens, mask))
    real = mask.astype(bool)
    scale = np.abs(expected[real]).max()
    assert np.abs(actual - expected)[real].max() <= 1e-4 * scale


@pytest.mark.parametrize(('family', 'tied'), FAMILIES)
def test_greedy_text_equals_transformers(tmp_path, family, tied):
    expected_model = reference.make(tmp_path, family, tied)
    model = models.load_model(str(tmp_path))
    tokens, mask = padded_batch(np.random.default_rng(1), ['none', 'left', 'left', 'left'])
    expected = expected_model.generate(
        torch.tensor(tokens.astype(np.int64)),
        attention_mask=torch.tensor(mask),
        max_new_tokens=64,
        do_sample=False,
        eos_token_id=None,
    ).numpy()[:, tokens.shape[1] :]
    actual = np.asarray(model.generate(tokens, mask, max_new_tokens=64))
    np.testing.assert_array_equal(actual, expected)
