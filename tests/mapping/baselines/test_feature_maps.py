import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lorajax.mapping.baselines import feature_maps
from lorajax.mapping.baselines.data_free import carry


def carried(maps, a, b):
    inner, outer = maps
    names = ('in_left', 'in_right', 'out_left', 'out_right')
    x, y = carry(dict(zip(names, (*inner, *outer), strict=True)), a, b)
    return np.asarray(x) @ np.asarray(y)


@pytest.fixture
def update():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 2)).astype('f'), rng.normal(size=(2, 6)).astype('f')


def test_cross_lora_between_equal_weights_projects_on_their_leading_subspaces(update):
    kernel = np.random.default_rng(1).normal(size=(8, 6)).astype('f')
    u, _, vt = np.linalg.svd(kernel, full_matrices=False)
    for rank in (3, 6):
        expected = u[:, :rank] @ u[:, :rank].T @ update[0] @ update[1] @ vt[:rank].T @ vt[:rank]
        found = carried(feature_maps.cross_lora(kernel, kernel, rank), *update)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_cross_lora_does_not_depend_on_the_signs_that_svd_returns(update):
    rng = np.random.default_rng(2)
    source, target = (rng.normal(size=(8, 6)).astype('f') for _ in range(2))
    for side in feature_maps.cross_lora(source, target, 4)[1]:
        largest = np.take_along_axis(np.asarray(side), np.abs(side).argmax(0)[None], 0)
        assert (largest > 0).all()


def test_signs_are_those_along_which_states_agree():
    rng = np.random.default_rng(6)
    right, left = (np.linalg.qr(rng.normal(size=(n, 4)))[0].astype('f') for n in (8, 6))
    signs = np.array([1, -1, -1, 1])
    along = rng.normal(size=(30, 4))
    source, target = (along @ right.T).astype('f'), (along * signs @ left.T).astype('f')
    found = feature_maps.signed_by_states(feature_maps.FeatureMap(left, right), source, target)
    np.testing.assert_array_equal(found.left, left * signs)
    np.testing.assert_array_equal(found.right, right)


def test_lora_x_skips_dissimilar_tensors(update):
    kernel = np.random.default_rng(1).normal(size=(8, 6)).astype('f')
    other = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0].astype('f') @ kernel
    assert carried(feature_maps.lora_x(kernel, kernel, 3, 0.9), *update).any()
    assert not carried(feature_maps.lora_x(kernel, other, 3, 0.9), *update).any()


@pytest.mark.parametrize('positions', [5, 50])
def test_procrustes_recovers_a_rotation_of_the_states(positions):
    rng = np.random.default_rng(4)
    rotation = np.linalg.qr(rng.normal(size=(9, 9)))[0][:, :7]  # 7 source to 9 target features
    source = rng.normal(size=(positions, 7)).astype('f')
    target = source @ rotation.T.astype('f')
    left, right = feature_maps.procrustes(source, target)
    np.testing.assert_allclose((source @ right) @ left.T, target, atol=1e-4)


def test_state_ridge_is_sklearn_ridge():
    rng = np.random.default_rng(5)
    given, explained = rng.normal(size=(30, 7)).astype('f'), rng.normal(size=(30, 4)).astype('f')
    p, q = feature_maps.state_ridge(explained, given, 0.2)
    alpha = 0.2 * np.mean(np.linalg.svd(given, compute_uv=False) ** 2)
    expected = Ridge(alpha=alpha, fit_intercept=False).fit(given, explained).coef_.T
    np.testing.assert_allclose(np.asarray(p) @ np.asarray(q).T, expected, atol=1e-5)


@pytest.mark.parametrize(('source', 'target'), [(5, 8), (8, 5)])
def test_padding_keeps_the_common_features(source, target):
    left, right = feature_maps.pad_or_cut(source, target)
    states = np.random.default_rng(0).normal(size=(3, source)).astype('f')
    carried = states @ right @ left.T
    common = min(source, target)
    np.testing.assert_allclose(
        carried[:, :common], (source / target) ** 0.25 * states[:, :common], rtol=1e-6
    )
    assert not carried[:, common:].any() and carried.shape == (3, target)
