"""Pretraining on packed rows."""

import dataclasses
import itertools

import jax
import numpy as np

from lorajax import models
from lorajax.text import pretrain
from lorajax.training import all_weights
from tests.text.rows import Rows


def test_rows_are_filled_from_both_streams_by_their_shares():
    streams = [itertools.repeat([5] * 30), itertools.repeat([6] * 10)]
    packed = list(itertools.islice(pretrain.rows_of(streams, (0.75, 0.25), 128), 20))
    tokens, numbers = map(np.stack, zip(*packed, strict=True))
    assert tokens.shape == numbers.shape == (20, 128)
    assert abs((tokens == 6).mean() - 0.25) < 0.03  # a cut document is 30 tokens at most
    for row, count in packed:
        assert count[0] == 1 and set(np.diff(count)) <= {0, 1}
        assert all(len(set(row[count == n])) == 1 for n in set(count))


def test_a_pretrained_model_loads_and_learns_no_document_from_another(tmp_path):
    pair = pretrain.PAIRS['first']
    config = dataclasses.replace(pair.configs['target'], vocab_size=280, num_layers=1)
    shapes = {'steps': 2, 'batch_size': 1, 'length': 6}  # one shape for all steps here
    recipe = dataclasses.replace(pair, configs={'target': config}, peak=1e-3, **shapes)
    made = pretrain.pretrain(Rows(), recipe, 'target')
    pretrain.save(tmp_path / 'it', config, *made)
    model = models.load_model(str(tmp_path / 'it'))
    assert model.config.vocab_size == 280
    optimizer = all_weights.make_optimizer(2, 1e-3, 5e-5)  # as the pretraining had: compiled once

    def loss(tokens, numbers):
        params = jax.tree.map(np.array, model.params)  # the step takes them
        rows = pretrain.of_documents(np.array([tokens], np.int32), np.array([numbers], np.int32))
        state = optimizer.init(params)
        return float(all_weights.take_step(model.module, optimizer, params, state, rows)[2])

    alone = [loss([*part, *part], [1, 1, 1, 2, 2, 2]) for part in ([3, 4, 5], [6, 7, 8])]
    both = loss([3, 4, 5, 6, 7, 8], [1, 1, 1, 2, 2, 2])
    np.testing.assert_allclose(both, np.mean(alone), rtol=1e-5)  # float32 sums
    assert abs(loss([3, 4, 5, 6, 7, 8], [1] * 6) - both) > 1e-4


def test_no_two_models_of_a_pair_have_one_shape_or_tokenizer():
    for pair in pretrain.PAIRS.values():
        source, target = pair.configs.values()
        assert source.family != target.family and source.vocab_size != target.vocab_size
        assert source.embed_dim != target.embed_dim and source.num_layers != target.num_layers
