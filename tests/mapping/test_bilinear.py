import jax
import numpy as np
from sklearn.linear_model import Ridge

from lorajax.mapping import bilinear


def make_samples(key=0, anchors=12, k=2, i=5, j=6, m=4, n=3, noise=0.0):
    """Samples of a planted bilinear map, and the map."""
    rng = np.random.default_rng(key)
    x_in, x_out = rng.normal(size=(anchors, k, i, 2)), rng.normal(size=(anchors, k, 2, j))
    maps = bilinear.Maps(rng.normal(size=(k, m, i)), rng.normal(size=(k, n, j)))
    y = np.einsum('kmi,akiq,akqj,knj->amn', maps.inner, x_in, x_out, maps.outer)
    y = y + noise * rng.normal(size=y.shape)
    y_in, y_out = np.broadcast_to(np.eye(m), (anchors, m, m)), y
    samples = bilinear.Samples(*(z.astype(np.float32) for z in (x_in, x_out, y_in, y_out)))
    return samples, maps, y


def test_one_side_is_sklearn_ridge():
    samples, maps, y = make_samples(noise=0.5)
    c = np.einsum('knj,akqj->akqn', maps.outer, samples.x_out).astype(np.float32)
    rows = np.einsum('akiq,akqn->anki', samples.x_in, c).reshape(-1, 10).astype(np.float64)
    alpha = 0.3 * np.mean(np.sum(rows**2, axis=0))
    model = Ridge(alpha=alpha, fit_intercept=False).fit(rows, y.swapaxes(1, 2).reshape(-1, 4))
    found = bilinear.solve_side(samples.x_in, c, samples.y_in, samples.y_out, np.float32(0.3))
    expected = model.coef_.reshape(4, 2, 5).swapaxes(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_planted_map_is_recovered_and_carries_over():
    samples, maps, _ = make_samples(anchors=40, k=1)
    found = bilinear.fit_maps(jax.random.key(0), samples, np.ones(40, 'f'), 1e-5, 60)
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(1, 5, 2)).astype('f'), rng.normal(size=(1, 2, 6)).astype('f')
    expected = bilinear.apply_maps(bilinear.Maps(*(np.float32(side) for side in maps)), a, b)
    error = np.abs(bilinear.apply_maps(found, a, b) - expected).max()
    assert error < 1e-2 * np.abs(expected).max()


def test_leaving_out_equals_fitting_on_the_rest_and_folds_equal_a_loop():
    samples, _, _ = make_samples(noise=0.3)
    keep = np.ones(12, np.float32)
    keep[[2, 7]] = 0
    key, penalty = jax.random.key(1), np.float32(1.0)
    masked = bilinear.fit_maps(key, samples, keep, penalty, 4)
    rest = bilinear.Samples(*(factor[keep > 0] for factor in samples))
    alone = bilinear.fit_maps(key, rest, np.ones(10, np.float32), penalty, 4)
    np.testing.assert_allclose(masked.inner, alone.inner, atol=1e-4)
    folds = np.stack([keep, np.ones(12, np.float32)])
    batch = bilinear.fit_folds(key, samples, folds, penalty, 4, 3)
    single = bilinear.fit_maps(jax.random.split(key, 3)[2], samples, keep, penalty, 4)
    np.testing.assert_allclose(batch.outer[0, 2], single.outer, atol=1e-4)


def test_windows_stay_inside_and_follow_depth():
    windows = [bilinear.source_window(layer, 28, 36, 5) for layer in range(28)]
    assert windows[0] == [0, 1, 2, 3, 4] and windows[-1] == [31, 32, 33, 34, 35]
    assert all(len(window) == 5 for window in windows)
    assert bilinear.source_window(1, 3, 4, 4) == [0, 1, 2, 3]
    for width in (3, 4):
        for layer in range(28):
            distances = np.abs(np.arange(36) - layer * 35 / 27)
            nearest = np.argsort(distances, kind='stable')[:width]
            assert bilinear.source_window(layer, 28, 36, width) == sorted(nearest)
    assert bilinear.source_window(0, 1, 6, 3) == [3, 4, 5]
