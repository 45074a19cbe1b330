import numpy as np
import pytest
import scipy.optimize

from lorajax import mapping
from lorajax.mapping import kernel_alignment, model_card, scores
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from tests.mapping.worlds import SOURCE, TARGET, changed, dense, make_world, regauged, split


def test_cosines_equal_those_of_dense_updates(world):
    source, _ = world
    anchors = Anchors(source, 'source')
    (cross,), own = Queries({'q': source['task3']}).cosines(anchors)
    np.testing.assert_array_equal(own, 1)
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


def plain_weights(source, target, query, relative_penalty):
    """Weights float64[P, A] in numpy alone, from flat updates [A, N] of each tensor."""

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    def mixed(rows):  # the three kinds of features of one source tensor, of norm 1
        both = np.einsum('sio,sip->sop', rows, rows), np.einsum('sio,sjo->sij', rows, rows)
        return [unit(kind.reshape(len(rows), -1)) for kind in (rows, *both)]

    count = len(target[0])
    centring = np.eye(count) - 1 / count
    kernels, cross = [np.ones((count, count))], [np.ones(count)]
    for tensor, one in zip(source, query, strict=True):  # each layer is a band of its own
        for kind, features in enumerate(mixed(np.concatenate([tensor, one[None]]))):
            anchors, new = features[:-1], features[-1]
            if kind:
                anchors, new = centring @ anchors, new - anchors.mean(0)
                size = np.sqrt(np.sum(anchors**2) / count)
                anchors, new = anchors / size, new / size
            kernels.append(anchors @ anchors.T)
            cross.append(anchors @ new)
    kernels, cross = np.array(kernels), np.array(cross)
    pairs = np.triu_indices(count, 1)
    features = kernels[:, *pairs].T
    bound = np.sqrt(0.09 * np.sum(features**2) / len(kernels)) * np.eye(len(kernels))
    weights = []
    for tensor in target:
        rows = tensor.reshape(count, -1)
        right = np.append((unit(rows) @ unit(rows).T)[pairs], np.zeros(len(kernels)))
        mixture, _ = scipy.optimize.nnls(np.vstack([features, bound]), right)
        kernel = np.tensordot(mixture, kernels, 1)
        shift = relative_penalty * np.trace(kernel) / count * np.eye(count)
        lengths = np.linalg.norm(rows, axis=1)
        one = np.linalg.inv(kernel + shift) @ (mixture @ cross)
        weights.append(one / lengths * lengths.mean())
    return np.array(weights)


def test_the_default_equals_plain_numpy_on_dense_updates():
    source, target = make_world(key=3, tasks=7, noise=1.0)
    source, queries = split(source, 'task6')
    target, _ = split(target, 'task6')

    def updates(trees):
        return [
            np.stack([np.float64(f['a'][layer]) @ f['b'][layer] for f in factors])
            for p in ('q_proj', 'v_proj')
            for factors in [[tree['layers'][p] for tree in trees]]
            for layer in range(len(factors[0]['a']))
        ]

    anchors, truths = updates(source.values()), updates(target.values())
    (*query,) = (tensor[0] for tensor in updates(queries.values()))
    weights = plain_weights(anchors, truths, query, 0.03)
    ratios = []
    for i in range(6):  # left out
        rest = [np.delete(tensor, i, 0) for tensor in anchors]
        others = [np.delete(tensor, i, 0) for tensor in truths]
        rows = plain_weights(rest, others, [tensor[i] for tensor in anchors], 0.03)
        lengths = [np.mean(np.sum(tensor**2, (1, 2))) for tensor in truths]  # tensors count alike
        found = [
            np.sum(np.tensordot(w, t, 1) ** 2) / n
            for w, t, n in zip(rows, others, lengths, strict=True)
        ]
        own = [np.sum(tensor[i] ** 2) / n for tensor, n in zip(truths, lengths, strict=True)]
        ratios.append(np.sqrt(sum(found) / sum(own)))
    scale = 0.6 / np.mean(ratios)
    assert scale > 1.05
    fitted = mapping.fit('matched_scaled', source, target, output_rank=16)
    assert fitted.diagnostics['scale'] == pytest.approx(scale, rel=1e-4)
    expected = np.concatenate(
        [scale * np.tensordot(w, t, 1).ravel() for w, t in zip(weights, truths, strict=True)]
    )
    error = np.linalg.norm(dense(fitted.predict(queries['task6'])) - expected)
    assert error < 1e-4 * np.linalg.norm(expected)


def test_anchors_of_rank_one_with_one_frozen_factor_make_no_kernel_of_rounding_errors(world):
    """What all their updates read is the same, so nothing can be told from it."""
    first = world[0]['task0']['layers']
    source = {
        task: {
            'layers': {
                p: {'a': first[p]['a'][..., :1], 'b': f['b'][:, :1]}
                for p, f in tree['layers'].items()
            }
        }
        for task, tree in world[0].items()
    }
    before = mapping.fit('matched_ridge', source, world[1])
    assert before.diagnostics['kernel_shares']['inputs'] < 1e-3
    grid = np.geomspace(0.01, 3.0, 16)
    assert np.isclose(grid, before.diagnostics['ridge_lambda_relative']).any()
    same = {task: regauged(tree, key) for key, (task, tree) in enumerate(source.items())}
    after = mapping.fit('matched_ridge', same, world[1]).predict(same['task3'])
    np.testing.assert_allclose(dense(after), dense(before.predict(source['task3'])), atol=1e-3)


def test_predictions_have_the_scale_of_the_targets_also_where_an_anchor_has_zeros(world):
    source, target = world
    target = target | {'task2': changed(target['task2'], lambda b: 0 * b)}
    small = {task: changed(tree, lambda b: np.float32(1e-3) * b) for task, tree in target.items()}
    large, little = (
        dense(mapping.fit('matched_ridge', source, side).predict(source['task0']))
        for side in (target, small)
    )
    np.testing.assert_allclose(1e3 * little, large, atol=1e-4 * np.abs(large).max())


def test_tensors_of_zeros_lie_in_every_span(world):
    source, target = world
    part = changed(source['task1'], lambda b: b * (np.arange(4) < 2)[:, None, None])
    report = mapping.fit('matched_ridge', source, target).explain(part).report
    assert report['distance_to_span'] < 1e-3


def test_two_anchors_predict_each_other_by_the_mean_of_the_others_whatever_the_penalty():
    source, target = make_world(tasks=2)
    fitted = mapping.fit('matched_ridge', source, target, ridge_lambda=0.1)
    np.testing.assert_allclose(dense(fitted.left_out()['task0']), dense(target['task1']), atol=1e-4)


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
