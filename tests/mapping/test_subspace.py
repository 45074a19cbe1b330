import numpy as np
import pytest

from lorajax.mapping import subspace
from lorajax.mapping.anchors import Anchors
from tests.mapping.worlds import dense, regauged


@pytest.fixture
def anchors(world):
    return Anchors(world[1], 'target')


@pytest.fixture
def weights(anchors):
    return np.random.default_rng(3).normal(size=(len(anchors.tensors), len(anchors)))


def test_full_rank_combination_is_lossless(anchors, weights):
    weights[:] = weights[0]
    ((adapter, lost),) = subspace.combine_updates(anchors.frame, weights[None], rank=24)
    expected = sum(
        w * dense(tree) for w, tree in zip(weights[0], anchors.trees.values(), strict=True)
    )
    np.testing.assert_allclose(dense(adapter), expected, atol=2e-5 * np.abs(expected).max())
    assert lost == pytest.approx(0.0, abs=1e-6)
    assert adapter['layers']['q_proj']['a'].shape == (3, 24, 24)


def test_truncation_is_the_best_approximation(anchors, weights):
    ((adapter, lost),) = subspace.combine_updates(anchors.frame, weights[None], rank=3)
    kept = whole = 0.0
    for index, (projection, layer) in enumerate(anchors.tensors):
        a, b = anchors.layer(projection, layer)
        total = np.einsum('a,air,aro->io', weights[index], a, b)
        u, s, vt = np.linalg.svd(total, full_matrices=False)
        f = adapter['layers'][projection]
        np.testing.assert_allclose(
            f['a'][layer] @ f['b'][layer], (u[:, :3] * s[:3]) @ vt[:3], atol=2e-5 * s[0]
        )
        kept, whole = kept + np.sum(s[:3] ** 2), whole + np.sum(s**2)
    assert lost == pytest.approx(1 - kept / whole, abs=1e-5)


def test_gauge_of_the_anchors_does_not_change_the_result(anchors, weights):
    moved = {t: regauged(tree, key) for key, (t, tree) in enumerate(anchors.trees.items())}
    ((before, _),) = subspace.combine_updates(anchors.frame, weights[None], 3)
    frame = Anchors(moved, 'target').frame
    ((after, _),) = subspace.combine_updates(frame, weights[None], 3)
    for projection, f in before['layers'].items():
        for key in 'ab':  # the factors themselves agree, so the gauge of the output is fixed
            np.testing.assert_allclose(f[key], after['layers'][projection][key], atol=1e-4)


def test_with_rank_keeps_the_product_and_pads_with_zeros():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(9, 3)).astype('f'), rng.normal(size=(3, 5)).astype('f')
    (x,), (y,), (energy,) = subspace.with_rank(a[None], b[None], 7)
    assert x.shape == (9, 7) and y.shape == (7, 5)
    assert not x[:, 3:].any() and not y[3:].any()
    np.testing.assert_allclose(x @ y, a @ b, atol=1e-5)
    assert energy[0] == pytest.approx(energy[1])


def test_zero_weights_give_a_zero_adapter(anchors, weights):
    ((adapter, lost),) = subspace.combine_updates(anchors.frame, 0 * weights[None], 3)
    assert not dense(adapter).any() and lost == 0.0


def test_a_frame_gives_back_the_adapters_it_was_made_of(anchors):
    adapters = subspace.frame_adapters(anchors.frame)
    for adapter, tree in zip(adapters, anchors.trees.values(), strict=True):
        whole = dense(tree)
        np.testing.assert_allclose(dense(adapter), whole, atol=1e-5 * np.abs(whole).max())
