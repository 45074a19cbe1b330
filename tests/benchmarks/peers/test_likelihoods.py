"""Adapters that match the likelihoods of chunks."""

import dataclasses

import jax
import numpy as np

from benchmarks.peers import likelihoods, selection
from lorajax.training import TrainConfig
from tests.distillation.toy_teacher import known_rows, load, random_adapter


def test_answers_are_cut_where_both_tokenizers_do():
    # 'ab|c|de|end' and 'a|bc|d|e|end': shared ends at 3 and 5
    cut = likelihoods.chunks(np.array([2, 3, 5, 5]), np.array([1, 3, 4, 5, 5]))
    assert cut.teacher.tolist() == [0, 0, 1, 1] and cut.student.tolist() == [0, 0, 1, 1, 1]
    row = likelihoods.matched(None, cut, np.array([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(row.wanted, [-0.3, -0.7])


def test_divergence_is_least_at_the_teachers_likelihood():
    wanted = np.log([0.9, 0.5, 0.1, 1.0])
    at = np.asarray(likelihoods.divergence(wanted, wanted))
    np.testing.assert_allclose(at, 0.0, atol=1e-6)  # float32 logarithms
    for other in (0.3, 0.95):
        assert (np.asarray(likelihoods.divergence(wanted, np.log(other))) > 1e-3).all()
    slope = jax.grad(lambda x: likelihoods.divergence(0.0, x))(np.log(0.25))
    np.testing.assert_allclose(slope, -1.0, rtol=1e-4)  # a sure teacher: the hard answer's loss


def test_training_brings_chunks_to_the_likelihood_that_is_wanted():
    model, chat = load('target')
    known = [chat.encode(row) for row in known_rows(4)]
    # The answers of others are unlikely.
    rows = [
        dataclasses.replace(row, answer=other.answer)
        for row, other in zip(known, known[1:] + known[:1], strict=True)
    ]
    size = len(rows[0].answer)
    cut = likelihoods.chunks(np.arange(size), np.arange(size))
    wanted = [likelihoods.matched(row, cut, np.full(size, 0.2)) for row in rows]
    start = random_adapter(model, 0, targets=('q_proj', 'down_proj'), size=0.01)
    config = TrainConfig(num_epochs=12, batch_size=4, learning_rate=3e-2, rank=4, alpha=8.0)

    def distance(adapter):
        known = selection.token_losses(model, adapter, rows, 4, chat.pad_id)
        return np.abs(np.concatenate(known) - 0.2).mean()

    made = likelihoods.train(model, wanted, config, start_from=start, pad_id=chat.pad_id)
    assert distance(made) < 0.5 * distance(start)
