"""The loss of chosen tokens is what the logits of the whole row say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.models import loss, presets
from lorajax.models.loss import target_nll

INDEX = np.array([[1, 3, 6], [2, 2, 5]], np.int32)
MASK = np.array([[1, 1, 1], [1, 0, 1]], np.float32)


@pytest.fixture(scope='module')
def model():
    return models.random_model(presets.LLAMA3_TINY, jax.random.key(0))


def rows(model):
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, model.config.vocab_size, (2, 8)).astype(np.int32)
    segments = np.ones_like(tokens)
    segments[1, 6:] = 0
    return tokens, segments


def random_adapter(config, seed):
    drawn = lora.init_adapter(
        jax.random.key(seed), config.projections, config.num_layers, 3, ('q_proj', 'up_proj')
    )
    return jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.05), drawn)


def expected_nll(model, adapter=None):
    """-log softmax at the position before each target, from all logits, in float64."""
    tokens, segments = rows(model)
    logits = np.asarray(model.logits(tokens, segments, adapter), np.float64)
    logits -= logits.max(-1, keepdims=True)
    nll = np.log(np.exp(logits).sum(-1, keepdims=True)) - logits
    row = np.arange(2)[:, None]
    return nll[row, INDEX - 1, tokens[row, INDEX]] * MASK


def test_it_is_the_logits_own(model):
    tokens, segments = rows(model)
    nll = target_nll(model.module, model.params, None, tokens, segments, INDEX, MASK)
    # float32 logits of a few units: 1e-5 is some tens of roundings.
    np.testing.assert_allclose(nll, expected_nll(model), rtol=1e-5, atol=1e-5)
    assert nll[1, 1] == 0


def test_stacked_adapters_give_the_losses_of_each(model):
    adapters = [random_adapter(model.config, seed) for seed in (1, 2)]
    batch = [np.stack([array] * 2) for array in (*rows(model), INDEX, MASK)]
    nll = target_nll(model.module, model.params, lora.stack(adapters), *batch)
    for row, adapter in zip(nll, adapters, strict=True):
        np.testing.assert_allclose(row, expected_nll(model, adapter), rtol=1e-4, atol=1e-4)
    assert np.abs(nll[0] - nll[1]).max() > 1e-3


@pytest.mark.parametrize('softcap', [None, 2.0])
@pytest.mark.parametrize('most', [2**24, 40])
def test_chunks_change_neither_losses_nor_gradients(monkeypatch, most, softcap):
    monkeypatch.setattr(loss, '_MOST_LOGITS', most)  # 40: a position at a time
    rng = np.random.default_rng(0)
    matrix, hidden = (rng.normal(size=s).astype(np.float32) for s in ((11, 6), (2, 5, 6)))
    targets, weight = rng.integers(0, 11, (2, 5)), rng.normal(size=(2, 5))

    def plain(matrix, hidden):
        logits = hidden @ matrix.T
        if softcap:
            logits = softcap * jnp.tanh(logits / softcap)
        log_probabilities = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
        return -(chosen * weight).sum()

    def fused(matrix, hidden):
        return (loss.token_nll(matrix, hidden, targets, softcap) * weight).sum()

    with jax.enable_x64():
        exact = jax.value_and_grad(plain, (0, 1))(matrix.astype(float), hidden.astype(float))
    assert fused(matrix, hidden) == pytest.approx(float(exact[0]), rel=1e-5)
    value, gradients = jax.jit(jax.value_and_grad(fused, (0, 1)))(matrix, hidden)
    assert value == pytest.approx(float(exact[0]), rel=1e-5)
    for found, expected in zip(gradients, exact[1], strict=True):
        # float32 sums of at most eleven products.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_no_array_of_all_logits_is_made():
    positions, width, vocabulary = 1024, 8, 2**17  # 512 MB of logits

    def total(matrix, hidden, targets):
        return loss.token_nll(matrix, hidden, targets).sum()

    arguments = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (
            ((vocabulary, width), jnp.float32),
            ((1, positions, width), jnp.float32),
            ((1, positions), jnp.int32),
        )
    ]
    compiled = jax.jit(jax.grad(total, argnums=1)).lower(*arguments).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 64 * 2**20


def test_rows_of_other_shapes_are_refused(model):
    tokens, segments = rows(model)
    with pytest.raises(AssertionError, match='shape'):
        target_nll(model.module, model.params, None, tokens, segments, INDEX, MASK[:, :2])
