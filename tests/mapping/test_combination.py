import numpy as np
import pytest

from lorajax.mapping import combination
from lorajax.mapping.anchor_weights import AnchorWeights, KernelWeighting
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.solvers import constant
from tests.mapping.worlds import dense, flat, make_world


@pytest.fixture
def anchors(world):
    return Anchors(world[1], 'target')


def test_factors_are_summed_each_by_itself(anchors):
    weights = np.random.default_rng(1).normal(size=(2, len(anchors.tensors), 8))
    results = combination.combine_factors(anchors, weights, rank=3)
    for rows, (adapter, lost) in zip(weights, results, strict=True):
        assert lost == 0.0
        for index, (projection, layer) in enumerate(anchors.tensors):
            a, b = anchors.layer(projection, layer)
            factors = adapter['layers'][projection]
            np.testing.assert_allclose(
                factors['a'][layer], np.tensordot(rows[index], a, 1), atol=1e-4
            )
            np.testing.assert_allclose(
                factors['b'][layer], np.tensordot(rows[index], b, 1), atol=1e-4
            )


def test_another_rank_truncates_the_product_of_the_sums(anchors):
    weights = np.random.default_rng(1).normal(size=(1, len(anchors.tensors), 8))
    ((whole, _),) = combination.combine_factors(anchors, weights, rank=3)
    ((wide, lost),) = combination.combine_factors(anchors, weights, rank=5)
    np.testing.assert_allclose(dense(wide), dense(whole), atol=1e-3)
    assert lost == pytest.approx(0.0, abs=1e-6)
    ((narrow, lost),) = combination.combine_factors(anchors, weights, rank=1)
    error = np.sum((dense(narrow) - dense(whole)) ** 2)
    assert lost == pytest.approx(error / np.sum(dense(whole) ** 2), rel=1e-4) and lost > 0.1


def test_reports_name_the_anchors_in_use_nearest_first():
    weights = np.array([[0.5, 0.0, -1.0], [0.0, 0.0, 3.0]])
    found = AnchorWeights(weights, 0.25, np.array([0.1, 0.9, 0.8]))
    assert combination.describe_weights(found, ('a', 'b', 'c')) == {
        'weights': {'a': 0.25, 'b': 0.0, 'c': 1.0},
        'selected': ['c', 'a'],
        'distance_to_span': 0.25,
    }


@pytest.mark.parametrize('space', ['factor', 'delta'])
def test_scores_are_those_of_dense_left_out_predictions(space):
    source, target = make_world(tasks=5)
    sides = Anchors(source, 'source'), Anchors(target, 'target')
    weighting = KernelWeighting(constant(1.0), space)
    state = combination.fit(weighting, *sides, Options())
    ratios = []
    for task in sides[1].tasks:
        rest = {t: tree for t, tree in target.items() if t != task}
        part = combination.fit(
            weighting, Anchors({t: source[t] for t in rest}, 's'), Anchors(rest, 't'), Options()
        )
        (one,) = combination.predict(weighting, part, Queries({'q': source[task]}), 24)
        ratios.append(np.linalg.norm(dense(one.adapter)) / np.linalg.norm(dense(target[task])))
    # Scores weigh every tensor alike, norms of whole adapters do not.
    assert state.info['loo_norm_ratio'] == pytest.approx(np.mean(ratios), rel=0.1)
    assert state.info['validation'] == 'leave-one-out'
    (whole,) = combination.predict(weighting, state, Queries({'q': source['task0']}), 24)
    norms = [np.linalg.norm(dense(tree)) for tree in target.values()]
    expected = np.linalg.norm(dense(whole.adapter)) / np.mean(norms)
    assert whole.report['norm_ratio'] == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(flat(whole.adapter)).all()
