import numpy as np
import pytest

from lorajax import mapping
from lorajax.mapping import kernel_alignment, model_card, scores
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from tests.mapping.worlds import SOURCE, TARGET, dense, make_world, split


def test_cosines_equal_those_of_dense_updates(world):
    source, _ = world
    anchors = Anchors(source, 'source')
    cross = Queries({'q': source['task3']}).cosines(anchors)[0]
    for index, (projection, layer) in enumerate(anchors.tensors):
        a, b = anchors.layer(projection, layer)
        updates = np.einsum('air,aro->aio', a, b).astype(np.float64)
        kinds = (
            updates,
            np.einsum('aio,aip->aop', updates, updates),
            np.einsum('aio,ajo->aij', updates, updates),
        )
        for kind, dense_kind in enumerate(kinds):
            flat = dense_kind.reshape(len(updates), -1)
            flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
            np.testing.assert_allclose(anchors.cosines[kind, index], flat @ flat.T, atol=1e-5)
            np.testing.assert_allclose(cross[kind, index], flat @ flat[3], atol=1e-5)


def test_zero_and_tiny_updates_have_finite_cosines(world):
    source, _ = world
    source = {
        t: {'layers': {p: dict(f) for p, f in s['layers'].items()}} for t, s in source.items()
    }
    source['task0']['layers']['q_proj']['b'] *= 0
    source['task1']['layers']['q_proj']['b'] = source['task1']['layers']['q_proj']['b'] * 1e-12
    before = Anchors(world[0], 'source').cosines
    after = Anchors(source, 'source').cosines
    assert not after[:, :4, 0].any()
    np.testing.assert_allclose(after[:, :, 1:, 1:], before[:, :, 1:, 1:], atol=1e-5)


def test_bands_average_neighbouring_layers():
    tensors = [('q_proj', layer) for layer in range(20)] + [('v_proj', 0)]
    bands = kernel_alignment.band_matrix(tensors)
    assert bands.shape == (9, 21)
    np.testing.assert_allclose(bands.sum(1), 1)
    np.testing.assert_array_equal((bands > 0).sum(0), 1)


def test_kernels_of_a_query_that_is_an_anchor_equal_the_anchors_row():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 2, 6, 9))
    cosines = np.einsum('kbsf,kbtf->kbst', features, features)
    kernels = kernel_alignment.make_kernels(cosines, cosines[:, :, 4])
    np.testing.assert_allclose(kernels.query, kernels.anchors[:, 4], atol=1e-12)
    assert np.linalg.eigvalsh(kernels.anchors).min() > -1e-10


def test_fit_mixture_finds_a_planted_mixture():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(5, 12, 4))
    kernels = np.einsum('fsk,ftk->fst', features, features)
    planted = np.array([[0.0, 2.0, 0.0, 0.0, 1.0], [0.5, 0.0, 0.0, 3.0, 0.0]])
    found = kernel_alignment.fit_mixture(kernels, np.tensordot(planted, kernels, 1))
    assert (found >= 0).all()
    assert np.corrcoef(found.ravel(), planted.ravel())[0, 1] > 0.99
    np.testing.assert_array_equal(found.argmax(1), planted.argmax(1))


def test_left_out_rows_equal_refitting_without_the_anchor():
    source, target = make_world(tasks=7)
    options = Options(ridge_lambda=0.3)
    whole = kernel_alignment.KernelAlignment().fit(
        Anchors(source, 'source'), Anchors(target, 'target'), options
    )
    source, query = split(source, 'task2')
    target, _ = split(target, 'task2')
    anchors = Anchors(source, 'source')
    rest = kernel_alignment.KernelAlignment().fit(anchors, Anchors(target, 'target'), options)
    ((weights, *_),) = kernel_alignment.KernelAlignment().weights(
        rest.arrays, anchors, Queries(query)
    )
    np.testing.assert_allclose(np.delete(whole.left_out[:, 2], 2, 1), weights, atol=1e-4)
    np.testing.assert_array_equal(whole.left_out[:, 2, 2], 0)


def test_the_size_of_a_source_adapter_does_not_matter(world):
    source, target = world
    louder = {p: {'a': f['a'], 'b': 9 * f['b']} for p, f in source['task1']['layers'].items()}
    before = mapping.fit('matched_ridge', source, target).predict(source['task0'])
    after = mapping.fit('matched_ridge', source | {'task1': {'layers': louder}}, target).predict(
        source['task0']
    )
    np.testing.assert_allclose(dense(after), dense(before), atol=1e-3)


def crossed_world(key, tasks):
    """Source layers do by halves what target layers do in the opposite order of depth."""
    rng = np.random.default_rng(key)
    early, late = rng.integers(4, size=tasks), rng.integers(4, size=tasks)
    sides = []
    for shapes, flip in ((SOURCE, False), (TARGET, True)):
        adapters = {f'task{t:02d}': {'layers': {}} for t in range(tasks)}
        for projection, (layers, n_in, n_out) in shapes.items():
            a = rng.normal(size=(layers, n_in, 3)).astype(np.float32)
            parts = rng.normal(size=(2, 4, layers, 3, n_out))
            for t, tree in enumerate(adapters.values()):
                is_early = (np.arange(layers) < layers / 2) != flip
                b = np.where(is_early[:, None, None], parts[0, early[t]], parts[1, late[t]])
                b = b + 0.3 * rng.normal(size=b.shape)
                tree['layers'][projection] = {'a': a, 'b': b.astype(np.float32)}
        sides.append(adapters)
    return sides


@pytest.mark.parametrize('key', range(3))
def test_finds_the_tensors_that_do_the_same_work(key):
    source, target = crossed_world(key, 24)
    held_out = sorted(source)[-6:]
    source, queries = split(source, *held_out)
    target, truths = split(target, *held_out)

    def error(name):
        predictions = mapping.fit(name, source, target).explain_many(queries)
        return np.mean(
            [
                np.sum((dense(predictions[t].adapter) - dense(truths[t])) ** 2)
                / np.sum(dense(truths[t]) ** 2)
                for t in held_out
            ]
        )

    assert error('matched_ridge') < 0.8 * error('delta_tensor_ridge')
    assert error('matched_ridge') < error('delta_ridge')


def test_short_predictions_are_lengthened_to_the_share_of_the_truth_and_long_ones_are_not():
    source, target = (Anchors(tree, side) for tree, side in zip(make_world(), 'st', strict=True))
    options = Options()
    plain = kernel_alignment.KernelAlignment(relative_penalty=0.03).fit(source, target, options)

    def ratio(fitted):
        products = scores.update_products(fitted.left_out, target.delta_gram)
        return scores.report(*products, target.delta_gram)['loo_norm_ratio']

    assert plain.info['ridge_lambda_relative'] == 0.03 and plain.info['scale'] == 1.0
    for share in (0.5 * ratio(plain), 1.5 * ratio(plain)):
        found = kernel_alignment.KernelAlignment(0.03, norm_share=share).fit(
            source, target, options
        )
        assert ratio(found) == pytest.approx(max(share, ratio(plain)), rel=1e-6)
        queries = Queries({'q': make_world(key=1)[0]['task0']})
        ((before, *_),) = kernel_alignment.KernelAlignment(0.03).weights(
            plain.arrays, source, queries
        )
        ((after, *_),) = kernel_alignment.KernelAlignment(0.03, share).weights(
            found.arrays, source, queries
        )
        np.testing.assert_allclose(after, found.info['scale'] * before, rtol=1e-6)


def test_the_default_falls_back_to_the_mean_where_leave_one_out_finds_nothing():
    """Three pairs of unrelated adapters: on some, chance gives a penalty that beats the mean."""
    fallbacks = []
    for key in range(6):
        source, _ = make_world(key=key, tasks=3)
        _, target = make_world(key=key + 50, tasks=3, latents=7)
        fitted = mapping.fit('matched_scaled', source, target)
        chosen = mapping.fit('matched_ridge', source, target).diagnostics
        fallbacks.append(fitted.diagnostics['fallback'])
        assert fallbacks[-1] == chosen['fallback']
        if fallbacks[-1]:
            mean = mapping.fit('mean_delta', source, target).predict(source['task0'])
            np.testing.assert_allclose(
                dense(fitted.predict(source['task1'])), dense(mean), atol=1e-5
            )
            assert fitted.diagnostics['loo_r2'] == pytest.approx(0.0, abs=1e-6)
            assert model_card.warning(fitted.diagnostics, {}) is not None
        else:
            assert chosen['loo_r2'] > 0
    assert set(fallbacks) == {'mean', None}


@pytest.mark.parametrize('tasks', [1, 2])
def test_too_few_pairs_to_leave_one_out_give_the_mean(tasks):
    fitted = mapping.fit('matched_scaled', *make_world(tasks=tasks))
    assert fitted.diagnostics['fallback'] == 'mean'


def test_a_given_penalty_is_added_as_it_is_and_one_of_our_own_over_the_mean_diagonal():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(3, 5, 7))
    kernels = kernel_alignment.Kernels(
        np.einsum('fsk,ftk->fst', features, features), rng.normal(size=(3, 5))
    )
    mixture = np.abs(rng.normal(size=(2, 3)))
    for is_relative in (False, True):
        penalty = kernel_alignment.Penalty(0.7, is_relative)
        found = kernel_alignment.mixture_weights(kernels, mixture, penalty)
        for weights, shares in zip(found, mixture, strict=True):
            mixed = np.tensordot(shares, kernels.anchors, 1)
            shift = 0.7 * (np.trace(mixed) / 5 if is_relative else 1.0)
            expected = np.linalg.inv(mixed + shift * np.eye(5)) @ (shares @ kernels.query)
            np.testing.assert_allclose(weights, expected, rtol=1e-9)
    info = mapping.fit('matched_scaled', *make_world(), ridge_lambda=0.2).diagnostics
    assert info['ridge_lambda'] == 0.2 != info['ridge_lambda_relative']
