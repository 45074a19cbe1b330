import jax
import numpy as np
import pytest

from lorajax import mapping
from lorajax.mapping import mlp
from lorajax.mapping.float64 import on_host
from tests.mapping.kernels import make_data
from tests.mapping.worlds import make_world


@pytest.fixture
def data():
    return make_data()


def test_network_coordinates_are_an_isometry(data):
    x, _, _query = data
    kernel = (x @ x.T)[None]
    found, inverse = on_host(mlp.coordinates)(kernel)
    scale = np.mean(np.sum((x - x.mean(0)) ** 2, axis=1))
    expected = (x - x.mean(0)) @ (x - x.mean(0)).T
    np.testing.assert_allclose(scale * found[0] @ found[0].T, expected, atol=1e-8)
    at_anchor = on_host(mlp.query_coordinates)(kernel, kernel[:, 4])
    np.testing.assert_allclose(at_anchor[0], found[0, 4], atol=1e-8)
    # weights that a prediction at an anchor's own coordinates gives are that anchor's
    np.testing.assert_allclose(1 / 9 + inverse[0] @ found[0, 4], np.eye(9)[4], atol=1e-8)


def test_networks_learn_a_linear_map_and_depend_on_the_seed_alone():
    source, target = make_world(tasks=12, noise=0.02)
    first, second = (mapping.fit('pertensor_mlp', source, target, seed=s) for s in (1, 1))
    other = mapping.fit('pertensor_mlp', source, target, seed=2)
    assert first.diagnostics == second.diagnostics != other.diagnostics
    assert first.diagnostics['loo_r2'] > 0.3


def test_of_two_anchors_each_is_predicted_by_the_other():
    source, target = make_world(tasks=2)
    diagnostics = mapping.fit('pertensor_mlp', source, target).diagnostics
    assert diagnostics['loo_r2'] == pytest.approx(0.0, abs=1e-6)  # as good as the mean of the other


def test_a_fresh_network_outputs_zero_and_training_comes_nearer():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 3, 6, 4)).astype('f')
    network = mlp.init_network(jax.random.key(0), 4, 4)
    assert not np.any(mlp.apply_network(network, x))
    trained = mlp.train_networks(jax.random.split(jax.random.key(0), 3), x, y, 2)
    errors = [np.sum(y**2)]
    for step in range(2):
        networks = jax.tree.map(lambda leaf, step=step: leaf[step], trained)
        errors.append(np.sum((np.asarray(jax.vmap(mlp.apply_network)(networks, x)) - y) ** 2))
    assert errors[0] > errors[1] > errors[2]


def test_training_is_adamw_on_the_mean_squared_error():
    """Fifty steps in numpy, float64, of one network of 32 hidden units."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 6, 4))
    network = mlp.init_network(jax.random.key(3), 4, 4)
    p = {name: np.float64(leaf) for name, leaf in network.items()}
    assert p['hidden'].shape == (4, 32)
    first, second = (dict.fromkeys(p, 0.0) for _ in range(2))
    for step in range(1, 51):
        h = x @ p['hidden'] + p['bias']
        t = np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3))
        slope = (1 + t) / 2 + h / 2 * (1 - t**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * h**2)
        out = h * (1 + t) / 2
        error = 2 * (out @ p['out'] - y) / 6
        inner = error @ p['out'].T * slope
        for name, g in (('hidden', x.T @ inner), ('bias', inner.sum(0)), ('out', out.T @ error)):
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            size = np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8
            step_by = first[name] / (1 - 0.9**step) / size
            p[name] = p[name] - 3e-3 * (step_by + 1e-2 * p[name])
    trained = mlp.train_networks(
        jax.random.key(3)[None], x[None].astype('f'), y[None].astype('f'), 2
    )
    for name, leaf in trained.items():
        np.testing.assert_allclose(leaf[1, 0], p[name], atol=1e-4)  # steps of 3e-3
