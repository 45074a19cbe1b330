import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.mapping import gram
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.queries import Queries
from tests.mapping.worlds import dense, flat, regauged


def test_factored_grams_equal_dense_grams(world):
    source, _ = world
    anchors = Anchors(source, 'source')
    updates = np.stack([dense(source[task]) for task in anchors.tasks])
    factors = np.stack([flat(source[task]) for task in anchors.tasks])
    np.testing.assert_allclose(anchors.delta_gram.sum(0), updates @ updates.T, rtol=1e-5)
    np.testing.assert_allclose(anchors.factor_gram.sum(0), factors @ factors.T, rtol=1e-5)


def test_cross_products_with_a_query_of_another_rank(world):
    source, _ = world
    query = regauged(source['task3'])
    wider = {
        p: {
            'a': np.concatenate([f['a'], f['a']], -1),
            'b': np.concatenate([f['b'], f['b']], 1) / 2,
        }
        for p, f in query['layers'].items()
    }
    anchors = Anchors(source, 'source')
    (cross,), (own,) = Queries({'wider': {'layers': wider}}).products(anchors, 'delta')
    np.testing.assert_allclose(cross, anchors.delta_gram[:, 3], rtol=1e-4)
    np.testing.assert_allclose(own, anchors.delta_gram[:, 3, 3], rtol=1e-4)


def test_delta_gram_ignores_the_gauge_and_factor_gram_does_not(world):
    source, _ = world
    moved = {task: regauged(tree, key) for key, (task, tree) in enumerate(source.items())}
    before, after = Anchors(source, 'source'), Anchors(moved, 'source')
    np.testing.assert_allclose(after.delta_gram, before.delta_gram, rtol=1e-4, atol=1e-4)
    assert np.abs(after.factor_gram - before.factor_gram).max() > 1.0


def test_trace_scales_leave_zero_tensors_alone():
    grams = np.stack([np.diag([2.0, 4.0]), np.zeros((2, 2))])
    np.testing.assert_array_equal(gram.trace_scales(grams), [3.0, 1.0])


def test_a_singular_kernel_is_one_line():
    right = np.ones((2, 1))
    np.testing.assert_array_equal(gram.solve(2.0 * np.eye(2), right), right / 2.0)
    with pytest.raises(InputError, match='a kernel of the mapping is singular; expected inner'):
        gram.solve(np.ones((2, 2)), right)
