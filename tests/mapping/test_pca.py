import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from lorajax.mapping import pca, ridge
from lorajax.mapping.float64 import on_host
from lorajax.mapping.options import Options
from tests.mapping.kernels import apply, make_data, problem_of


@pytest.fixture
def data():
    return make_data()


@on_host
def weights(source, target, cross, penalty):
    return pca.component_weights(ridge.centre(source), ridge.centre(target), cross, penalty)


@pytest.mark.parametrize('components', [0, 2, 8])
def test_principal_components_equal_sklearn(data, components):
    x, y, query = data
    w = weights(x @ x.T, y @ y.T, x @ query, np.array(2.0))[components]
    plain = Ridge(alpha=2.0).fit(x, y).predict(query[None])[0]
    if components:
        model = PCA(components).fit(y)
        expected = model.inverse_transform(model.transform(plain[None]))[0]
    else:
        expected = y.mean(0)
    np.testing.assert_allclose(w @ y, expected, atol=1e-8)


def test_components_and_penalty_are_the_best_of_all_by_refitting(data):
    x, y, _ = data
    fit = pca.principal_components().fit(problem_of(x, y), Options())
    norms = np.sum(y**2, axis=1)

    def error(rows):
        return np.mean(np.sum((y - rows @ y) ** 2, axis=1) / norms)

    best = np.inf
    for relative in ridge.RELATIVE_GRID[:-1:2]:
        centred = x - x.mean(0)
        penalty = relative * np.mean(np.sum(centred**2, axis=1))
        rows = np.zeros((8, 9, 9))
        for i in range(9):
            rest = np.delete(np.arange(9), i)
            rows[:, i, rest] = weights(
                x[rest] @ x[rest].T, y[rest] @ y[rest].T, x[rest] @ x[i], np.array(penalty)
            )
        best = min(best, *map(error, rows))
    assert error(fit.left_out[0]) == pytest.approx(best, rel=1e-9)
    assert 0 < fit.info['components'] < 8


def test_two_anchors_give_the_mean(data):
    x, y, query = data
    found, info = apply(pca.principal_components(), x[:2], y[:2], query)
    np.testing.assert_allclose(found, [0.5, 0.5])
    assert info == {'components': 0}
