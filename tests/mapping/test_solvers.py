import numpy as np
import pytest

from lorajax.mapping import mlp, pca, solvers, topk
from lorajax.mapping.options import Options
from tests.mapping.kernels import apply, make_data, problem_of, query_of


@pytest.fixture
def data():
    return make_data()


def test_nearest_and_projection(data):
    x, y, query = data
    w, _ = apply(solvers.nearest(), x, y, query)
    assert w.tolist() == np.eye(9)[query_of(x, query).cosines[0].argmax()].tolist()
    w, _ = apply(solvers.projection(), x, y, 2 * x[3] - x[5])
    np.testing.assert_allclose(w, 2 * np.eye(9)[3] - np.eye(9)[5], atol=1e-4)


def test_scale_is_the_least_squares_scale_of_left_out_predictions(data):
    x, y, _ = data
    solver = solvers.scaled(solvers.constant(1.0))
    _, info, rows = solver.fit(problem_of(x, y), Options())
    means = (y.sum(0) - y) / 8
    norms = np.sum(y**2, axis=1)
    expected = np.sum(np.sum(means * y, 1) / norms) / np.sum(np.sum(means**2, 1) / norms)
    assert info['scale'] == pytest.approx(expected)
    np.testing.assert_allclose(rows[0] @ y, expected * means)
    for sign in (1.0, -1.0):  # c = sum <Y_i, M_-i> / sum |M_-i|^2 as it stands
        shifted = y - (1.0 - sign) * y.mean(0)
        plain = solvers.scaled(solvers.constant(1.0), alike=False)
        means = (shifted.sum(0) - shifted) / 8
        _, info, _ = plain.fit(problem_of(x, shifted), Options())
        assert info['scale'] == pytest.approx(np.sum(means * shifted) / np.sum(means**2))


def test_the_placebo_permutes_weights_and_keeps_its_hands_off_the_left_out(data):
    x, y, query = data
    problem = problem_of(x, y)
    plain = solvers.kernel_ridge(fall_back=True)
    placebo = solvers.misassigned(plain)
    state, _, (rows,) = placebo.fit(problem, Options(seed=3))
    w = placebo.weights(state, problem, query_of(x, query))[0, 0]
    before = plain.weights(state, problem, query_of(x, query))[0, 0]
    np.testing.assert_allclose(sorted(w), sorted(before))
    assert (w != before).all()
    np.testing.assert_allclose(rows.sum(1), 1)
    np.testing.assert_allclose(np.diag(rows), 0, atol=1e-12)


def test_refit_rows_never_use_the_left_out_anchor(data):
    x, y, _ = data
    problem = problem_of(x, y)
    for solver in (topk.topk_ridge(4), pca.principal_components(), mlp.neural_network()):
        rows = solver.fit(problem, Options()).left_out
        np.testing.assert_array_equal(np.diag(rows[0]), 0)


@pytest.mark.parametrize(
    'solver', [solvers.nearest(), solvers.projection(), topk.topk_ridge(3), topk.topk_ridge(99)]
)
def test_left_out_rows_are_what_a_fit_without_the_anchor_answers(data, solver):
    x, y, _ = data
    rows = solver.fit(problem_of(x, y), Options(ridge_lambda=2.0)).left_out[0]
    for i in (0, 5):
        rest = np.delete(np.arange(9), i)
        expected, _ = apply(solver, x[rest], y[rest], x[i], ridge_lambda=2.0)
        np.testing.assert_allclose(rows[i, rest], expected, atol=1e-9)


def test_many_queries_are_answered_as_one_by_one(data):
    x, y, query = data
    problem, singles = problem_of(x, y), [query_of(x, q) for q in (query, 2 * x[3] - x[5])]
    both = solvers.Query(*(np.concatenate(leaves) for leaves in zip(*singles, strict=True)))
    for solver in (
        solvers.constant(1.0), solvers.nearest(), solvers.projection(), topk.topk_ridge(4),
        solvers.scaled(solvers.kernel_ridge(fall_back=True)), pca.principal_components(),
    ):  # fmt: skip
        state = solver.fit(problem, Options()).state
        together = solver.weights(state, problem, both)
        for i, single in enumerate(singles):
            alone = solver.weights(state, problem, single)[0]
            np.testing.assert_allclose(together[i], alone, atol=1e-12)


def test_folds_leave_each_anchor_out_once_and_rows_put_it_back(data):
    x, y, _ = data
    left = solvers.folds(problem_of(x, y))
    np.testing.assert_array_equal(left.others[4], [0, 1, 2, 3, 5, 6, 7, 8])
    np.testing.assert_allclose(
        left.problems.source[4, 0], np.delete(x, 4, 0) @ np.delete(x, 4, 0).T
    )
    np.testing.assert_allclose(left.queries.source[4, 0], np.delete(x, 4, 0) @ x[4])
    rows = np.asarray(solvers.rows_of_folds(left.others, left.queries.source))[0]
    np.testing.assert_allclose(rows, x @ x.T * (1 - np.eye(9)), rtol=1e-6)
    single = solvers.folds(problem_of(x[:1], y[:1]))
    assert single.others.shape == (0, 0)
