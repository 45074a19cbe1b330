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
