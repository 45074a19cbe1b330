"""Models equal `transformers`, and adapters do what they should."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.errors import ArgumentError, InputError
from tests.models.identities import SHAPE, random_adapter, tokens_for

torch = pytest.importorskip('torch')
from tests.models import reference  # noqa: E402

PUBLISHED = pathlib.Path(__file__).resolve().parents[3] / 'shared' / 'models'
FAMILIES = [
    ('qwen2', True), ('llama', False), ('qwen3', True), ('mistral', False), ('gemma2', True),
    ('gemma3_text', True),
]  # fmt: skip


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


@pytest.fixture(scope='module', params=FAMILIES, ids=lambda it: f'{it[0]}-{it[1]}')
def both(request, tmp_path_factory):
    """A random model of transformers, and what is loaded of its checkpoint."""
    directory = tmp_path_factory.mktemp('checkpoint')
    theirs = reference.make(directory, *request.param)
    return theirs, models.load_model(str(directory))


@pytest.mark.parity
def test_logits_equal_transformers(both):
    theirs, model = both
    tokens, mask = padded_batch(np.random.default_rng(0), ['none', 'left', 'right', 'left'])
    with torch.no_grad():
        positions = np.maximum(np.cumsum(mask, -1) - 1, 0)
        expected = theirs(
            torch.tensor(tokens.astype(np.int64)),
            attention_mask=torch.tensor(mask),
            position_ids=torch.tensor(positions),
        ).logits.numpy()
    actual = np.asarray(model.logits(tokens, mask))
    real = mask.astype(bool)
    scale = np.abs(expected[real]).max()
    assert np.abs(actual - expected)[real].max() <= 1e-4 * scale


@pytest.mark.parity
def test_greedy_text_equals_transformers(both):
    theirs, model = both
    tokens, mask = padded_batch(np.random.default_rng(1), ['none', 'left', 'left', 'left'])
    expected = theirs.generate(
        torch.tensor(tokens.astype(np.int64)),
        attention_mask=torch.tensor(mask),
        max_new_tokens=64,
        do_sample=False,
        eos_token_id=None,
    ).numpy()[:, tokens.shape[1] :]
    actual = np.asarray(model.generate(tokens, mask, max_new_tokens=64))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parity
@pytest.mark.parametrize('name', ['stories260K', 'babyllama-105'])
def test_published_checkpoints_equal_transformers(name):
    """Two small decoders that others trained: logits, and a text that one recognises."""
    import transformers

    directory = PUBLISHED / name
    if not directory.is_dir():
        pytest.skip('no published checkpoints beside the clone')
    theirs = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = models.load_model(str(directory))
    ids = tokenizer('Once upon a time, there was a little girl').input_ids
    tokens = np.array([ids], np.int32)
    with torch.no_grad():
        wide = torch.tensor(tokens.astype(np.int64))
        expected = theirs(wide).logits.numpy()
        text = theirs.generate(
            wide, attention_mask=torch.ones_like(wide), max_new_tokens=48, do_sample=False
        ).numpy()[:, tokens.shape[1] :]
    actual = np.asarray(model.logits(tokens))
    # float32 through five layers; 1.1e-6 of the largest logit was seen on an AMD EPYC.
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
    np.testing.assert_array_equal(
        model.generate(tokens, max_new_tokens=48)[:, : text.shape[1]], text
    )


@pytest.fixture(scope='module')
def model():
    return models.random_model(SHAPE, jax.random.key(0))


def test_zero_adapter_is_the_base_bit_for_bit(model):
    tokens = tokens_for(model.config)
    zero = jax.tree.map(np.zeros_like, random_adapter(model.config, 0))
    np.testing.assert_array_equal(model.logits(tokens), model.logits(tokens, adapter=zero))
    np.testing.assert_array_equal(model.logits(tokens), model.logits(tokens, adapter={}))


@pytest.mark.parametrize('targets', [lora.TARGETS, ('q_proj',), ('v_proj', 'down_proj')])
def test_merged_equals_adapter_and_unmerge_undoes_it(model, targets):
    tokens = tokens_for(model.config)
    adapter = random_adapter(model.config, 1, targets)
    merged = dataclasses.replace(model, params=lora.merge(model.params, adapter))
    expected = np.asarray(model.logits(tokens, adapter=adapter))
    np.testing.assert_allclose(merged.logits(tokens), expected, atol=2e-4)
    assert np.abs(expected - np.asarray(model.logits(tokens))).max() > 0.01
    back = lora.unmerge(merged.params, adapter)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), back, model.params)


def test_stacked_adapters_equal_one_after_the_other(model):
    tokens = tokens_for(model.config)
    adapters = [random_adapter(model.config, seed) for seed in range(3)]
    stacked = model.logits(tokens, adapter=lora.stack(adapters))
    for row, adapter in zip(stacked, adapters, strict=True):
        np.testing.assert_allclose(row, model.logits(tokens, adapter=adapter), atol=1e-4)


def test_packed_rows_equal_the_rows_alone(model):
    first, second = tokens_for(model.config, (1, 5)), tokens_for(model.config, (1, 7), seed=1)
    packed = np.concatenate([first, second, np.zeros((1, 2), np.int32)], axis=1)
    segments = np.array([[1] * 5 + [2] * 7 + [0] * 2], np.int32)
    logits = np.asarray(model.logits(packed, segments))
    np.testing.assert_allclose(logits[:, :5], model.logits(first), atol=1e-4)
    np.testing.assert_allclose(logits[:, 5:12], model.logits(second), atol=1e-4)


def test_inputs_that_do_not_fit_are_refused(model):
    with pytest.raises(InputError, match='hold 1 to 1000000'):
        model.logits([[1, 10**6]])
    with pytest.raises(InputError, match='is a str'):
        model.generate([[1]], adapter='somewhere')


def test_right_padded_prompts_are_refused(model):
    for dtype in (int, bool, np.uint8):
        with pytest.raises(InputError, match='left padding'):
            model.generate(tokens_for(model.config, (1, 3)), np.array([[1, 1, 0]], dtype))
    with pytest.raises(ArgumentError, match='max_new_tokens'):
        model.generate(tokens_for(model.config, (1, 3)), max_new_tokens=-1)
