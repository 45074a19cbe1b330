import numpy as np
import pytest

from lorajax.mapping.anchor_weights import KernelWeighting
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.solvers import kernel_ridge, nearest
from tests.mapping.worlds import dense, make_world, split


@pytest.fixture
def anchors():
    return [
        Anchors(side, name) for side, name in zip(make_world(), ('source', 'target'), strict=True)
    ]


def ridge_on(normalise, scope='global'):
    return KernelWeighting(kernel_ridge(fall_back=True), 'delta', normalise, scope)


@pytest.mark.parametrize('scope', ['global', 'module', 'tensor'])
@pytest.mark.parametrize('normalise', ['none', 'trace', 'cosine'])
def test_left_out_rows_equal_the_weights_of_a_fit_without_the_anchor(normalise, scope):
    source, target = make_world(tasks=6)
    options = Options(ridge_lambda=0.4)
    weighting = ridge_on(normalise, scope)
    whole = weighting.fit(Anchors(source, 'source'), Anchors(target, 'target'), options)
    rest, query = split(source, 'task3')
    anchors = Anchors(rest, 'source')
    fitted = weighting.fit(anchors, Anchors(split(target, 'task3')[0], 'target'), options)
    (weights,) = weighting.weights(fitted.arrays, anchors, Queries(query))
    # The scale of a trace is that of all anchors, so a fit without one has another.
    tolerance = 0.1 if normalise == 'trace' else 1e-4
    np.testing.assert_allclose(
        np.delete(whole.left_out[:, 3], 3, 1), weights.weights, atol=tolerance
    )
    np.testing.assert_allclose(weights.weights.sum(1), 1, rtol=1e-9)


def test_cosines_rank_the_anchors_and_distances_are_those_of_dense_updates(anchors):
    weighting = KernelWeighting(nearest(), 'delta')
    fitted = weighting.fit(*anchors, Options())
    stranger = make_world(key=3)[0]['task0']
    (found,) = weighting.weights(fitted.arrays, anchors[0], Queries({'it': stranger}))
    rows = np.stack([dense(tree) for tree in anchors[0].trees.values()])
    query = dense(stranger)
    cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-5)
    left = query - rows.T @ np.linalg.lstsq(rows.T, query, rcond=None)[0]
    expected = np.linalg.norm(left) / np.linalg.norm(query)
    assert found.span_distance == pytest.approx(expected, abs=1e-4)
    assert set(np.flatnonzero(found.weights.any(0))) == {cosines.argmax()}


def test_the_hierarchical_scope_takes_the_share_that_leave_one_out_prefers(anchors):
    best = ridge_on('trace', 'hierarchical').fit(*anchors, Options())
    ends = [ridge_on('trace', scope).fit(*anchors, Options()) for scope in ('global', 'tensor')]
    scores = [fit.info['loo_r2_own_space'] for fit in ends]
    assert 0 <= best.info['global_share'] <= 1
    assert best.info['loo_r2_own_space'] >= scores[1] - 1e-9
