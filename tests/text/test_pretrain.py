"""Pretraining on packed rows."""

import dataclasses
import itertools

import jax
import numpy as np
import optax

from lorajax import models
from lorajax.models import random_model
from lorajax.text import pretrain
from tests.text.rows import Rows


def test_rows_are_filled_from_both_streams_by_their_shares():
    streams = [itertools.repeat([5] * 30), itertools.repeat([6] * 10)]
    packed = list(itertools.islice(pretrain.rows_of(streams, (0.75, 0.25)), 20))
    tokens, numbers = map(np.stack, zip(*packed, strict=True))
    assert tokens.shape == numbers.shape == (20, pretrain.LENGTH)
    assert abs((tokens == 6).mean() - 0.25) < 0.03  # a cut document is 30 tokens at most
    for row, count in packed:
        assert count[0] == 1 and set(np.diff(count)) <= {0, 1}
        assert all(len(set(row[count == n])) == 1 for n in set(count))


def test_a_document_does_not_see_or_predict_another():
    config = dataclasses.replace(pretrain.CONFIGS['source'], vocab_size=280, num_layers=1)
    model = random_model(config, jax.random.key(0))
    optimizer = optax.sgd(0.0)
    first = np.array([[3, 4, 5, 6, 7, 8]], np.int32)
    numbers = np.array([[1, 1, 1, 2, 2, 2]], np.int32)
    losses = []
    for tokens in (first, np.array([[3, 4, 5, 7, 8, 6]], np.int32)):
        params = jax.tree.map(np.array, model.params)
        _, _, loss = pretrain.train_step(
            model.module, optimizer, params, optimizer.init(params), tokens, numbers
        )
        losses.append(float(loss))
    alone = []
    for tokens in (first[:, :3], first[:, 3:]):
        params = jax.tree.map(np.array, model.params)
        tokens, one = np.tile(tokens, 2), np.repeat([[1, 2]], 3, axis=1)
        _, _, loss = pretrain.train_step(
            model.module, optimizer, params, optimizer.init(params), tokens, one
        )
        alone.append(float(loss))
    np.testing.assert_allclose(losses[0], np.mean(alone), rtol=1e-5)  # float32 sums
    assert losses[1] != losses[0]


def test_a_pretrained_model_is_written_and_loads(tmp_path):
    config = dataclasses.replace(pretrain.CONFIGS['target'], vocab_size=280, num_layers=1)
    made = pretrain.pretrain(Rows(), config, seed=0, steps=2, batch_size=1, peak=1e-3)
    pretrain.save(tmp_path / 'it', config, *made)
    model = models.load_model(str(tmp_path / 'it'))
    assert model.config.vocab_size == 280 and model.config.num_layers == 1
