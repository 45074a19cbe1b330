import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.mapping import mlp, pca, ridge, solvers, topk
from lorajax.mapping.options import Options
from tests.mapping.worlds import make_world


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9, 20)) + 1
    y = x[:, :5] @ rng.normal(size=(5, 12)) + 0.3 * rng.normal(size=(9, 12))
    return x, y, rng.normal(size=20) + 1


def problem_of(x, y):
    norms = np.linalg.norm(x, axis=1)
    return solvers.Problem((x @ x.T)[None], (y @ y.T)[None], x @ x.T / np.outer(norms, norms))


def query_of(x, query):
    cosines = x @ query / np.linalg.norm(x, axis=1) / np.linalg.norm(query)
    return solvers.Query((x @ query)[None], cosines)


def apply(rule, x, y, query, **options):
    problem = problem_of(x, y)
    state, info = rule.fit(problem, Options(**options))
    return rule.weights(state, problem, query_of(x, query))[0], info


def test_topk_uses_the_nearest_anchors_only_and_all_of_them_is_ridge(data):
    x, y, query = data
    w, info = apply(topk.topk_ridge(4), x, y, query, ridge_lambda=2.0)
    near = np.argsort(-query_of(x, query).cosines)[:4]
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


@pytest.mark.parametrize('components', [0, 2, 8])
def test_principal_components_equal_sklearn(data, components):
    x, y, query = data
    found = pca.component_weights(problem_of(x, y), query_of(x, query), np.array([2.0]))
    w = found[components, 0]
    plain = Ridge(alpha=2.0).fit(x, y).predict(query[None])[0]
    if components:
        model = PCA(components).fit(y)
        expected = model.inverse_transform(model.transform(plain[None]))[0]
    else:
        expected = y.mean(0)
    np.testing.assert_allclose(w @ y, expected, atol=1e-8)


def test_nearest_and_projection(data):
    x, y, query = data
    w, _ = apply(solvers.nearest(), x, y, query)
    assert w.tolist() == np.eye(9)[query_of(x, query).cosines.argmax()].tolist()
    w, _ = apply(solvers.projection(), x, y, 2 * x[3] - x[5])
    np.testing.assert_allclose(w, 2 * np.eye(9)[3] - np.eye(9)[5], atol=1e-4)


def test_scale_is_the_least_squares_scale_of_left_out_predictions(data):
    x, y, _ = data
    rule = solvers.scaled(solvers.constant(1.0))
    state, info = rule.fit(problem_of(x, y), Options())
    means = (y.sum(0) - y) / 8
    norms = np.sum(y**2, axis=1)
    expected = np.sum(np.sum(means * y, 1) / norms) / np.sum(np.sum(means**2, 1) / norms)
    assert info['scale'] == pytest.approx(expected)
    np.testing.assert_allclose(rule.left_out(state, problem_of(x, y))[0] @ y, expected * means)


def test_the_placebo_permutes_weights_and_keeps_its_hands_off_the_left_out(data):
    x, y, query = data
    problem = problem_of(x, y)
    plain, placebo = solvers.kernel_ridge(fall_back=True), None
    placebo = solvers.misassigned(plain)
    state, _ = placebo.fit(problem, Options(seed=3))
    w = placebo.weights(state, problem, query_of(x, query))[0]
    before = plain.weights(state, problem, query_of(x, query))[0]
    np.testing.assert_allclose(sorted(w), sorted(before))
    assert (w != before).all()
    rows = placebo.left_out(state, problem)[0]
    np.testing.assert_allclose(rows.sum(1), 1)
    np.testing.assert_allclose(np.diag(rows), 0, atol=1e-12)


def test_refit_rows_never_use_the_left_out_anchor(data):
    x, y, _ = data
    problem = problem_of(x, y)
    for rule in (topk.topk_ridge(4), pca.principal_components(), mlp.neural_network()):
        state, _ = rule.fit(problem, Options())
        np.testing.assert_array_equal(np.diag(rule.left_out(state, problem)[0]), 0)


def test_network_coordinates_are_an_isometry(data):
    x, _, _query = data
    kernel = (x @ x.T)[None]
    found, inverse = mlp.coordinates(kernel)
    centred = ridge.centre(kernel)
    scale = centred.mean_diagonal[0]
    expected = (x - x.mean(0)) @ (x - x.mean(0)).T
    np.testing.assert_allclose(scale * found[0] @ found[0].T, expected, atol=1e-8)
    at_anchor = mlp.query_coordinates(kernel, kernel[:, 4])
    np.testing.assert_allclose(at_anchor[0], found[0, 4], atol=1e-8)
    # weights that a prediction at an anchor's own coordinates gives are that anchor's
    np.testing.assert_allclose(1 / 9 + inverse[0] @ found[0, 4], np.eye(9)[4], atol=1e-8)


def test_networks_learn_a_linear_map_and_depend_on_the_seed_alone():
    source, target = make_world(tasks=12, noise=0.02)
    first, second = (mapping.fit('pertensor_mlp', source, target, seed=s) for s in (1, 1))
    other = mapping.fit('pertensor_mlp', source, target, seed=2)
    assert first.diagnostics == second.diagnostics != other.diagnostics
    assert first.diagnostics['loo_r2'] > 0.3


def test_options_are_checked():
    for bad in ({'top_k': 0}, {'output_rank': 1.5}, {'bilinear_folds': 1}, {'state_penalty': 0}):
        with pytest.raises(InputError, match=next(iter(bad))):
            Options(**bad)
