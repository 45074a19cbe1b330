import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.mapping import solvers, topk
from tests.mapping.kernels import apply, make_data, query_of


@pytest.fixture
def data():
    return make_data()


def test_topk_uses_the_nearest_anchors_only_and_all_of_them_is_ridge(data):
    x, y, query = data
    w, info = apply(topk.topk_ridge(4), x, y, query, ridge_lambda=2.0)
    near = np.argsort(-query_of(x, query).cosines[0])[:4]
    assert info['top_k'] == 4 and set(np.flatnonzero(w)) == set(near)
    expected = Ridge(alpha=2.0).fit(x[near], y[near]).predict(query[None])[0]
    np.testing.assert_allclose(w @ y, expected, rtol=1e-9)
    everything, _ = apply(topk.topk_ridge(99), x, y, query, ridge_lambda=2.0)
    plain, _ = apply(solvers.kernel_ridge(fall_back=True), x, y, query, ridge_lambda=2.0)
    np.testing.assert_allclose(everything, plain, atol=1e-12)


def test_names_state_how_many_anchors_are_near(world):
    for name, count in (('topk3_global_ridge', 3), ('topk_pertensor_ridge', 5)):
        fitted = mapping.fit(name, *world, top_k=5)
        assert len(fitted.explain(world[0]['task0']).report['selected']) == count
    with pytest.raises(InputError, match='unknown mapping method'):
        mapping.fit('topk0_global_ridge', *world)


def test_the_nearest_come_first_and_equals_keep_their_order():
    cosines = np.array([0.1, 0.9, 0.5, 0.9])
    assert topk.nearest_anchors(cosines, 3).tolist() == [1, 3, 2]


def test_the_penalty_is_chosen_among_the_nearest_alone(data):
    x, y, query = data
    near = np.argsort(-query_of(x, query).cosines[0])[:5]
    weights, _ = apply(topk.topk_ridge(5), x, y, query)
    alone, _ = apply(solvers.kernel_ridge(fall_back=False), x[near], y[near], query)
    np.testing.assert_allclose(weights[near], alone, atol=1e-10)
