import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge

from lorajax.mapping import ridge as pure
from lorajax.mapping.float64 import on_host


class ridge:
    centre = on_host(pure.centre)
    weights = on_host(pure.weights)
    leave_one_out = on_host(pure.leave_one_out)
    loo_r2 = on_host(pure.loo_r2)
    choose_penalty = on_host(pure.choose_penalty, static_argnames=('may_be_mean',))
    given_penalty = on_host(pure.given_penalty)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x, y, query = rng.normal(size=(9, 30)) + 1, rng.normal(size=(9, 7)), rng.normal(size=30)
    return x, y, query


@pytest.mark.parametrize('alpha', [1e-3, 1.0, 1e3])
def test_equals_sklearn_ridge_with_intercept(data, alpha):
    x, y, query = data
    expected = Ridge(alpha=alpha).fit(x, y).predict(query[None])[0]
    w = ridge.weights(ridge.centre(x @ x.T), x @ query, np.array(alpha))
    np.testing.assert_allclose(w @ y, expected, rtol=1e-10, atol=1e-10)
    assert w.sum() == pytest.approx(1.0, abs=1e-14)


def test_equals_sklearn_kernel_ridge_on_centred_data(data):
    x, y, query = data
    mean_x, mean_y = x.mean(0), y.mean(0)
    model = KernelRidge(alpha=0.7, kernel='linear').fit(x - mean_x, y - mean_y)
    expected = model.predict((query - mean_x)[None])[0] + mean_y
    w = ridge.weights(ridge.centre(x @ x.T), x @ query, np.array(0.7))
    np.testing.assert_allclose(w @ y, expected, rtol=1e-10, atol=1e-10)


def test_solves_the_bordered_system(data):
    x, _, query = data
    n, kernel = len(x), x @ x.T
    bordered = np.block([[kernel + 0.3 * np.eye(n), np.ones((n, 1))], [np.ones((1, n)), 0]])
    expected = np.linalg.solve(bordered, np.append(x @ query, 1.0))[:n]
    w = ridge.weights(ridge.centre(kernel), x @ query, np.array(0.3))
    np.testing.assert_allclose(w, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('alpha', [1e-2, 1.0, 1e2, np.inf])
def test_leave_one_out_equals_refitting(data, alpha):
    x, y, _ = data
    rows = ridge.leave_one_out(ridge.centre(x @ x.T), np.array(alpha))
    for i in range(len(x)):
        keep = np.arange(len(x)) != i
        if np.isinf(alpha):
            expected = y[keep].mean(0)
        else:
            expected = Ridge(alpha=alpha).fit(x[keep], y[keep]).predict(x[i : i + 1])[0]
        np.testing.assert_allclose(rows[i] @ y, expected, rtol=1e-10, atol=1e-10)
        assert rows[i, i] == pytest.approx(0.0, abs=1e-12)


def test_infinite_penalty_is_the_mean_and_a_batch_is_a_loop(data):
    x, _, query = data
    kernels = np.stack([x @ x.T, 2 * x[:, :3] @ x[:, :3].T])
    crosses = np.stack([x @ query, 2 * x[:, :3] @ query[:3]])
    batch = ridge.weights(ridge.centre(kernels), crosses, np.array([np.inf, 0.1]))
    np.testing.assert_allclose(batch[0], np.full(9, 1 / 9))
    single = ridge.weights(ridge.centre(kernels[1]), crosses[1], np.array(0.1))
    np.testing.assert_allclose(batch[1], single, rtol=1e-9)


def chosen(x, y):
    """Penalty by leave-one-out and the R2 it reaches."""
    source, target = (x @ x.T)[None], (y @ y.T)[None]
    penalty, _, rows = ridge.choose_penalty(source, target)
    np.testing.assert_allclose(rows, ridge.leave_one_out(ridge.centre(source), penalty), atol=1e-12)
    return penalty, ridge.loo_r2(ridge.leave_one_out(ridge.centre(source), penalty), target)


def test_chosen_penalty_is_the_best_of_the_grid_by_refitting():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(10, 6))
    y = x @ rng.normal(size=(6, 4)) + 0.5 * rng.normal(size=(10, 4))
    penalty, score = chosen(x, y)

    def r2(alpha):
        keep = ~np.eye(10, dtype=bool)
        error = base = 0.0
        for i in range(10):
            model = Ridge(alpha=alpha).fit(x[keep[i]], y[keep[i]])
            norm = y[i] @ y[i]
            error += np.sum((model.predict(x[i : i + 1])[0] - y[i]) ** 2) / norm
            base += np.sum((y[keep[i]].mean(0) - y[i]) ** 2) / norm
        return 1 - error / base

    assert score == pytest.approx(r2(penalty[0]), abs=1e-6)
    assert score >= max(r2(penalty[0] * 1.5), r2(penalty[0] / 1.5)) - 1e-3
    assert 0.5 < score < 1


def test_pure_noise_chooses_the_mean():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(8, 500)), rng.normal(size=(8, 500))
    penalty, score = chosen(x, y)
    assert np.isinf(penalty[0]) or score < 0.02


@pytest.mark.parametrize('spread', [1e2, 1e6])
def test_weights_sum_to_one_however_wide_the_eigenvalues_spread(spread):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(7, 2)) @ rng.normal(size=(2, 50)) * spread + rng.normal(size=(7, 50))
    w = ridge.weights(ridge.centre(x @ x.T), x @ rng.normal(size=50), np.array(0.1))
    assert abs(w.sum() - 1) < 1e-9 * np.abs(w).sum()
    rows = ridge.leave_one_out(ridge.centre(x @ x.T), np.array(0.1))
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-9 * np.abs(rows).max())


@pytest.mark.parametrize('alpha', [0.2, 20.0])
def test_a_vanishing_penalty_is_sklearn_linear_regression_and_a_given_one_is_taken(alpha):
    rng = np.random.default_rng(4)
    x, y, query = rng.normal(size=(12, 5)), rng.normal(size=(12, 3)), rng.normal(size=5)
    expected = LinearRegression().fit(x, y).predict(query[None])[0]
    # The error of a penalty is proportional to it, until rounding in K / lambda takes over.
    w = ridge.weights(ridge.centre(x @ x.T), x @ query, np.array(1e-6))
    np.testing.assert_allclose(w @ y, expected, atol=1e-5)
    choice = ridge.given_penalty((x @ x.T)[None], alpha)
    assert choice.penalty == alpha
    centred = x - x.mean(0)
    assert choice.relative[0] == pytest.approx(alpha / np.mean(np.sum(centred**2, axis=1)))


def test_the_mean_may_be_ruled_out():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(8, 500)), rng.normal(size=(8, 500))
    choice = ridge.choose_penalty((x @ x.T)[None], (y @ y.T)[None], may_be_mean=False)
    assert choice.relative[0] == pure.RELATIVE_GRID[-2]
    few = ridge.choose_penalty((x[:2] @ x[:2].T)[None], (y[:2] @ y[:2].T)[None])
    assert np.isinf(few.penalty[0])
