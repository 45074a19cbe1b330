"""Compositions of adapters that few labels ask for."""

import numpy as np
import pytest

from benchmarks.peers import lorahub
from lorajax.distillation import material
from lorajax.errors import InputError
from tests.distillation.toy_teacher import known_rows, load, random_adapter


def test_the_search_comes_near_the_lowest_loss_and_never_above_nothing():
    wanted = np.array([1.0, -0.5, 0.0])

    def losses(weights):
        return 10 * np.square(weights - wanted).sum(axis=1)

    found = lorahub.search(losses, 3, rounds=20, draws=16, seed=0)
    assert np.abs(found - wanted).max() < 0.1
    assert (lorahub.search(lambda w: np.zeros(len(w)), 3, rounds=3, draws=8, seed=0) == 0).all()


def test_factors_are_combined():
    one = {'layers': {'q_proj': {'a': np.full((1, 2, 1), 2.0), 'b': np.full((1, 1, 2), 3.0)}}}
    entry = lorahub.combine([one, one], np.array([1.0, -0.5]))['layers']['q_proj']
    assert entry['a'].ravel().tolist() == [1.0, 1.0] and entry['b'].ravel().tolist() == [1.5, 1.5]


def test_a_composition_makes_examples_more_likely_than_the_bare_target():
    model, chat = load('target')
    rows = [chat.encode(row) for row in known_rows(4)]
    anchors = {str(seed): random_adapter(model, seed, size=0.2) for seed in range(3)}
    made = lorahub.compose(model, anchors, rows, pad_id=chat.pad_id, rounds=3, draws=8)
    with_it, without = (
        material.answer_losses(model, adapter, rows, 4, chat.pad_id).mean()
        for adapter in (made, None)
    )
    assert with_it <= without
    with pytest.raises(InputError, match='expected some of both'):
        lorahub.compose(model, anchors, [], pad_id=chat.pad_id)
