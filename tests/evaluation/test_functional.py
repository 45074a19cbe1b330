"""Left-out predictions are run on the rows of their own anchors."""

import numpy as np
import pytest

from lorajax import mapping
from lorajax.evaluation import functional
from lorajax.evaluation.inference import answer_nll
from tests.distillation.toy_teacher import known_rows, load, random_adapter


@pytest.fixture(scope='module')
def measured():
    """Two mappings of three anchors, and the losses of their left-out predictions."""
    model, chat = load('target')
    anchors = {f't{i}': random_adapter(model, i, rank=2) for i in range(3)}
    rows = {task: [chat.encode(row) for row in known_rows(5)] for task in ('t0', 't2')}
    losses, known = {}, None
    for method in ('mean_delta', 'zero'):
        fitted = mapping.fit(method, anchors, anchors, output_rank=4)
        known = functional.leave_one_out(model, chat.pad_id, fitted, anchors, rows, 4, known)
        losses[method] = known
    return model, chat, anchors, rows, losses


def test_losses_are_those_of_the_adapters_themselves(measured):
    model, chat, anchors, rows, losses = measured
    assert list(losses['mean_delta']) == ['t0', 't2']  # t1 has no rows
    others = {task: anchors[task] for task in ('t1', 't2')}
    left_out = mapping.fit('mean_delta', others, others, output_rank=4).predict(anchors['t0'])
    for name, adapter in (('none', None), ('own', anchors['t0']), ('left_out', left_out)):
        expected = answer_nll(model, adapter, rows['t0'], 8, chat.pad_id).mean()
        # Float32 logits of about 20, in batches of other sizes.
        assert losses['mean_delta']['t0'][name] == pytest.approx(expected, abs=2e-5)


def test_nothing_predicted_is_as_good_as_no_adapter(measured):
    *_, losses = measured
    for row in losses['zero'].values():
        assert row['left_out'] == pytest.approx(row['none'], abs=1e-6) != row['own']


def test_the_best_mapping_has_the_lowest_mean_loss(measured):
    *_, losses = measured
    means = {name: functional.left_out_mean(of) for name, of in losses.items()}
    assert means['zero'] == np.mean([row['none'] for row in losses['zero'].values()])
    assert functional.best(losses) == min(means, key=means.get)
    assert functional.best({}) is None
