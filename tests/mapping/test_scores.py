import numpy as np
import pytest

from lorajax.mapping import ridge, scores
from lorajax.mapping.anchors import Anchors
from tests.mapping.worlds import TARGET, dense


@pytest.fixture
def anchors(world):
    return Anchors(world[1], 'target')


@pytest.fixture
def rows(anchors):
    rows = np.random.default_rng(2).normal(size=(len(anchors.tensors), 8, 8))
    return rows * (1 - np.eye(8))


def pieces(adapter):
    """The updates of each tensor, flat."""
    sizes = [n_in * n_out for layers, n_in, n_out in TARGET.values() for _ in range(layers)]
    return np.split(dense(adapter), np.cumsum(sizes)[:-1])


def test_products_equal_those_of_dense_predictions(anchors, rows):
    updates = [
        np.stack(tensor) for tensor in zip(*map(pieces, anchors.trees.values()), strict=True)
    ]
    products, norms = scores.update_products(rows, anchors.delta_gram)
    for p, truth in enumerate(updates):
        prediction = rows[p] @ truth
        np.testing.assert_allclose(products[p], np.sum(prediction * truth, 1), rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(norms[p], np.sum(prediction**2, 1), rtol=1e-4)


def test_factor_products_equal_those_of_multiplied_sums(anchors, rows):
    products, norms = scores.factor_products(rows, anchors)
    for p, tensor in enumerate(anchors.tensors):
        a, b = anchors.layer(*tensor)
        truth = np.einsum('air,aro->aio', a, b)
        prediction = np.einsum('it,tjr->ijr', rows[p], a) @ np.einsum('it,tro->iro', rows[p], b)
        expected = np.sum(prediction * truth, (1, 2))
        np.testing.assert_allclose(products[p], expected, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(norms[p], np.sum(prediction**2, (1, 2)), rtol=1e-3)


def test_the_report_compares_with_the_left_out_mean(anchors, rows):
    tensors = [
        np.stack(tensor) for tensor in zip(*map(pieces, anchors.trees.values()), strict=True)
    ]
    scaled = [truth / np.sqrt(np.mean(np.sum(truth**2, 1))) for truth in tensors]
    means = ridge.mean_leave_one_out(8)

    def errors(weights):
        left = [truth - w @ truth for truth, w in zip(scaled, weights, strict=True)]
        own = sum(np.sum(truth**2, 1) for truth in scaled)
        return sum(np.sum(part**2, 1) for part in left) / own

    report = scores.report(*scores.update_products(rows, anchors.delta_gram), anchors.delta_gram)
    ours, mean = errors(rows), errors([means] * len(scaled))
    assert report['loo_r2'] == pytest.approx(1 - ours.mean() / mean.mean(), rel=1e-4)
    np.testing.assert_allclose(report['loo_r2_by_anchor'], 1 - ours / mean, rtol=1e-3)
    lengths = sum(np.sum((w @ t) ** 2, 1) for w, t in zip(rows, scaled, strict=True))
    truth = sum(np.sum(t**2, 1) for t in scaled)
    assert report['loo_norm_ratio'] == pytest.approx(np.mean(np.sqrt(lengths / truth)), rel=1e-4)
    single = scores.report(np.ones((2, 1)), np.ones((2, 1)), np.ones((2, 1, 1)))
    assert single['loo_r2'] is None


def test_distances_to_the_span_equal_least_squares():
    rng = np.random.default_rng(0)
    x, query = rng.normal(size=(5, 9)), rng.normal(size=9)
    kernel = (x @ x.T)[None]
    left = query - x.T @ np.linalg.lstsq(x.T, query, rcond=None)[0]
    distance = scores.span_distance(kernel, (x @ query)[None], np.array([query @ query]))
    assert distance == pytest.approx(np.linalg.norm(left) / np.linalg.norm(query), rel=1e-5)
    each = scores.anchor_span_distances(kernel)
    for i in range(5):
        rest = np.delete(x, i, 0)
        left = x[i] - rest.T @ np.linalg.lstsq(rest.T, x[i], rcond=None)[0]
        assert each[i] == pytest.approx(np.linalg.norm(left) / np.linalg.norm(x[i]), rel=1e-5)
