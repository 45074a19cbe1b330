import functools
import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lorajax import io, lora, mapping
from lorajax.errors import InputError
from tests.mapping.worlds import SOURCE, TARGET, dense, flat, make_world, regauged, split

DELTA = [name for name, method in mapping.METHODS.items() if method.any_rank]


def extras(name, key=0):
    """Base weights or activations, for methods that need them."""
    rng = np.random.default_rng(key)
    return {
        need: {
            projection: rng.normal(
                size=(
                    layers,
                    *{'weights': (n_in, n_out), 'inputs': (40, n_in), 'outputs': (40, n_out)}[
                        need.split('_')[1]
                    ],
                )
            ).astype(np.float32)
            for projection, (layers, n_in, n_out) in (
                SOURCE if need.startswith('source') else TARGET
            ).items()
        }
        for need in mapping.METHODS[name].needs
    }


@functools.cache
def of_world(name):
    """A method's mapping of the world of most tests; none of them changes it."""
    return mapping.fit(name, *make_world(), **extras(name))


def query_of(name, world, task):
    """What the method's predict wants to see."""
    return world[mapping.METHODS[name].query_side == 'target'][task]


@pytest.mark.parametrize('alpha', [0.5, 50.0])
def test_global_ridge_is_sklearn_ridge_on_flattened_factors(alpha):
    source, target = make_world(target_rank=2)
    source, queries = split(source, 'task7')
    target, _ = split(target, 'task7')
    tasks = sorted(source)
    model = Ridge(alpha=alpha).fit(
        np.stack([flat(source[t]) for t in tasks]), np.stack([flat(target[t]) for t in tasks])
    )
    fitted = mapping.fit('global_ridge', source, target, ridge_lambda=alpha)
    expected = model.predict(flat(queries['task7'])[None])[0]
    np.testing.assert_allclose(flat(fitted.predict(queries['task7'])), expected, atol=1e-4)


def test_pertensor_ridge_is_sklearn_ridge_per_tensor():
    source, target = make_world()
    source, queries = split(source, 'task7')
    target, _ = split(target, 'task7')
    tasks = sorted(source)
    predicted = mapping.fit('pertensor_ridge', source, target, ridge_lambda=3.0).predict(
        queries['task7']
    )

    def row(adapter, projection, layer):
        f = adapter['layers'][projection]
        return np.concatenate([f['a'][layer].ravel(), f['b'][layer].ravel()]).astype(np.float64)

    for layer, match in ((0, 0), (2, 3)):
        model = Ridge(alpha=3.0).fit(
            np.stack([row(source[t], 'q_proj', match) for t in tasks]),
            np.stack([row(target[t], 'q_proj', layer) for t in tasks]),
        )
        expected = model.predict(row(queries['task7'], 'q_proj', match)[None])[0]
        np.testing.assert_allclose(row(predicted, 'q_proj', layer), expected, atol=1e-4)


def test_delta_ridge_is_sklearn_ridge_on_scaled_dense_updates():
    source, target = make_world()
    source, queries = split(source, 'task7')
    target, _ = split(target, 'task7')
    tasks = sorted(source)
    fitted = mapping.fit('delta_ridge', source, target, ridge_lambda=0.2, output_rank=24)

    def features(adapter):  # each tensor scaled to a mean squared norm of 1 / number of tensors
        return [
            (p, layer, (f['a'][layer] @ f['b'][layer]).astype(np.float64).ravel())
            for p, f in adapter['layers'].items()
            for layer in range(len(f['a']))
        ]

    rows = {t: features(source[t]) for t in tasks}
    scales = [
        np.sqrt(np.mean([rows[t][x][2] @ rows[t][x][2] for t in tasks]) * len(rows[tasks[0]]))
        for x in range(len(rows[tasks[0]]))
    ]

    def scaled(updates):
        return np.concatenate([u / s for (_, _, u), s in zip(updates, scales, strict=True)])

    model = Ridge(alpha=0.2).fit(
        np.stack([scaled(rows[t]) for t in tasks]), np.stack([dense(target[t]) for t in tasks])
    )
    expected = model.predict(scaled(features(queries['task7']))[None])[0]
    np.testing.assert_allclose(dense(fitted.predict(queries['task7'])), expected, atol=2e-4)


@pytest.mark.parametrize('name', DELTA)
def test_delta_methods_ignore_every_gauge(name):
    source, target = make_world()
    query = query_of(name, (source, target), 'task7')
    source, target = (split(side, 'task7')[0] for side in (source, target))
    moved = [
        {task: regauged(tree, key) for key, (task, tree) in enumerate(side.items())}
        for side in (source, target)
    ]
    before = mapping.fit(name, source, target, **extras(name)).predict(query)
    after = mapping.fit(name, *moved, **extras(name)).predict(regauged(query, 99))
    np.testing.assert_allclose(dense(after), dense(before), atol=2e-3 * np.abs(dense(before)).max())


@pytest.mark.parametrize('name', ['global_ridge', 'pertensor_ridge'])
def test_a_large_penalty_gives_the_mean(world, name):
    query = world[0]['task0']
    mean = of_world('mean').predict(query)
    np.testing.assert_allclose(
        flat(mapping.fit(name, *world, ridge_lambda=1e12).predict(query)), flat(mean), atol=1e-5
    )


def test_unrelated_sides_fall_back_to_the_mean_and_say_so():
    source, _ = make_world(key=0)
    _, target = make_world(key=50, latents=7)
    fitted = mapping.fit('delta_ridge', source, target)
    assert fitted.diagnostics['fallback'] == 'mean'
    assert fitted.diagnostics['loo_r2'] == pytest.approx(0.0, abs=1e-6)
    weights = fitted.explain(source['task0']).report['weights']
    assert set(np.round(list(weights.values()), 12)) == {0.125}


def test_a_linear_world_is_recovered_and_leave_one_out_knows(world):
    source, target = make_world(tasks=10, noise=0.0)
    source, queries = split(source, 'task9')
    target, truths = split(target, 'task9')
    truth = dense(truths['task9'])
    fitted = mapping.fit('delta_ridge', source, target)
    error = dense(fitted.predict(queries['task9'])) - truth
    assert fitted.diagnostics['loo_r2'] > 0.999
    assert error @ error < 1e-3 * (truth @ truth)


@pytest.mark.parametrize('name', list(mapping.METHODS))
def test_saved_mappings_predict_the_same_bits(name, world, tmp_path):
    made = of_world(name)
    made.save(tmp_path / 'mapping')
    loaded = mapping.load(tmp_path / 'mapping')
    assert loaded.diagnostics == made.diagnostics
    json.dumps(made.diagnostics, allow_nan=False)
    query = query_of(name, world, 'task2')
    before, after = made.explain(query), loaded.explain(query)
    assert before.report == after.report
    np.testing.assert_array_equal(flat(after.adapter), flat(before.adapter))


@pytest.mark.parametrize('name', list(mapping.METHODS))
def test_predictions_are_target_adapters(name, world):
    query = query_of(name, world, 'task1')
    shapes = {p: f['b'].shape for p, f in of_world(name).predict(query)['layers'].items()}
    assert shapes == {'q_proj': (3, 3, 16), 'v_proj': (3, 3, 10)}
    wide = mapping.fit(name, *world, output_rank=5, **extras(name)).predict(query)
    assert wide['layers']['v_proj']['a'].shape == (3, 24, 5)
    assert all(leaf.dtype == np.float32 for f in wide['layers'].values() for leaf in f.values())


def test_leaves_may_be_memory_maps_and_adapters_may_be_callables(world, tmp_path):
    def mapped(tree, name):
        layers = {}
        for projection, f in tree['layers'].items():
            layers[projection] = {}
            for key, leaf in f.items():
                path = tmp_path / f'{name}-{projection}-{key}.npy'
                np.save(path, leaf)
                layers[projection][key] = np.load(path, mmap_mode='r')
        return {'layers': layers}

    lazy = {t: (lambda t=t, tree=tree: mapped(tree, t)) for t, tree in world[0].items()}
    query = world[0]['task0']
    np.testing.assert_array_equal(
        flat(mapping.fit('global_ridge', lazy, world[1]).predict(query)),
        flat(mapping.fit('global_ridge', *world).predict(query)),
    )


def broken(adapter, projection='q_proj', key='a', **changes):
    layers = {p: dict(f) for p, f in adapter['layers'].items()}
    layers[projection][key] = changes['leaf'](layers[projection][key])
    return {'layers': layers}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda leaf: leaf[:2], r"'task3'.*q_proj: expected a \[L, in, R\] and b"),
        (lambda leaf: leaf[:, :5], r"'task3'.*q_proj: has .* expected 4 layers of"),
        (lambda leaf: leaf * np.nan, r"'task3': q_proj layer 0 holds NaN"),
        (lambda leaf: leaf[0], r"'task3'.*q_proj: expected a \[L, in, R\]"),
    ],
)
def test_bad_anchors_are_named(world, change, message):
    source, target = world
    source = source | {'task3': broken(source['task3'], leaf=change)}
    with pytest.raises(InputError, match=message) as caught:
        mapping.fit('delta_ridge', source, target)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['global_ridge', 'delta_ridge'])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda leaf: leaf[:, :5], 'query adapter: q_proj: has .* expected 4 layers of'),
        (lambda leaf: leaf * np.inf, 'query adapter: q_proj layer 0 holds NaN'),
    ],
)
def test_bad_queries_are_refused(world, name, change, message):
    with pytest.raises(InputError, match=message):
        of_world(name).predict(broken(world[0]['task3'], leaf=change))


def test_only_factor_methods_insist_on_the_rank(world):
    query = {
        'layers': {
            p: {'a': f['a'][..., :1], 'b': f['b'][:, :1]}
            for p, f in world[0]['task0']['layers'].items()
        }
    }
    of_world('delta_ridge').predict(query)
    with pytest.raises(InputError, match='rank 1'):
        of_world('global_ridge').predict(query)


def test_bad_arguments_are_refused(world):
    source, target = world
    with pytest.raises(InputError, match="'delta_rigde': did you mean 'delta_ridge'"):
        mapping.fit('delta_rigde', source, target)
    with pytest.raises(InputError, match="option 'rigde_lambda': did you mean 'ridge_lambda'"):
        mapping.fit('mean', source, target, rigde_lambda=1.0)
    with pytest.raises(InputError, match='ridge_lambda -1: expected a positive number'):
        mapping.fit('mean', source, target, ridge_lambda=-1)
    with pytest.raises(InputError, match='no common task'):
        mapping.fit('mean', source, {f'other-{t}': tree for t, tree in target.items()})
    with pytest.raises(InputError, match=r"target adapters lack \['task3'\]"):
        mapping.fit('mean', source, split(target, 'task3')[0])
    with pytest.raises(InputError, match='no source adapters'):
        mapping.fit('mean', {}, target)
    with pytest.raises(InputError, match="unknown projection 'q_prj'; did you mean q_proj"):
        mapping.fit('mean', {'a': {'layers': {'q_prj': {}}}}, {'a': target['task0']})


@pytest.mark.parametrize('name', list(mapping.METHODS))
@pytest.mark.parametrize('tasks', [1, 2])
def test_one_or_two_anchors_are_enough(name, tasks):
    source, target = make_world(tasks=tasks)
    fitted = mapping.fit(name, source, target, **extras(name))
    json.dumps(fitted.diagnostics, allow_nan=False)
    assert np.isfinite(dense(fitted.predict(query_of(name, (source, target), 'task0')))).all()


def test_means_in_both_spaces(world):
    source, target = world
    query = source['task0']
    everything = np.mean([flat(tree) for tree in target.values()], axis=0)
    np.testing.assert_allclose(
        flat(mapping.fit('mean', *world).predict(query)), everything, atol=1e-5
    )
    updates = np.mean([dense(tree) for tree in target.values()], axis=0)
    wide = mapping.fit('mean_delta', *world, output_rank=24).predict(query)
    np.testing.assert_allclose(dense(wide), updates, atol=1e-4)
    assert not dense(mapping.fit('zero', *world).predict(query)).any()


def test_averaging_factors_loses_what_adapters_share_if_their_starts_differ():
    """The reason to work on updates: factors of different gauges do not add up."""
    for shared, least, most in ((True, 0.9, 1.1), (False, 0.0, 0.6)):
        source, target = make_world(shared_a=shared)
        query = source['task0']
        factors, updates = (
            np.linalg.norm(dense(mapping.fit(name, source, target, output_rank=24).predict(query)))
            for name in ('mean', 'mean_delta')
        )
        assert least < factors / updates < most


def test_many_queries_at_once_equal_one_by_one(world):
    source, target = world
    anchors = mapping.Anchors(source, 'source'), mapping.Anchors(target, 'target')
    for name in ('pertensor_ridge', 'matched_ridge'):
        fitted = mapping.fit(name, *anchors)
        together = fitted.explain_many({'a': source['task0'], 'b': source['task5']})
        for key, task in (('a', 'task0'), ('b', 'task5')):
            alone = dense(fitted.explain(source[task]).adapter)
            error = np.linalg.norm(dense(together[key].adapter) - alone)
            # float32 sums products of one and of two queries in another order.
            assert error < 1e-5 * np.linalg.norm(alone)


def test_reports_say_where_a_query_lies(world):
    source, target = world
    fitted = mapping.fit('delta_ridge', source, target)
    inside = fitted.explain(source['task0']).report
    stranger = make_world(key=77)[0]['task0']
    outside = fitted.explain(stranger).report
    assert inside['distance_to_span'] < 1e-3 < 0.9 < outside['distance_to_span']
    assert sum(inside['weights'].values()) == pytest.approx(1.0)
    assert fitted.diagnostics['anchors'] == sorted(source)
    nearest = mapping.fit('nearest', source, target).explain(source['task4'])
    assert nearest.report['selected'] == ['task4']
    top = mapping.fit('topk5_global_ridge', source, target).explain(source['task6']).report
    rows = {task: flat(tree) / np.linalg.norm(flat(tree)) for task, tree in source.items()}
    assert top['selected'] == sorted(rows, key=lambda t: -rows[t] @ rows['task6'])[:5]
    np.testing.assert_allclose(dense(nearest.adapter), dense(target['task4']), atol=1e-4)


def test_the_span_oracle_reproduces_what_lies_in_the_span(world):
    source, target = world
    mixed = mapping.fit('mean_delta', source, target, output_rank=24).predict(source['task0'])
    oracle = mapping.fit('span_oracle', source, target, output_rank=24)
    np.testing.assert_allclose(dense(oracle.predict(mixed)), dense(mixed), atol=1e-3)


@pytest.mark.parametrize('name', ['global_ridge', 'delta_ridge', 'matched_scaled', 'stacked'])
def test_a_mapping_gives_back_its_anchors(name, tmp_path):
    source, target = make_world(target_rank=2)
    fitted = mapping.fit(name, source, target)
    fitted.save(tmp_path / 'mapping')
    loaded = mapping.load(tmp_path / 'mapping')
    for side, trees in (('source', source), ('target', target)):
        kept = loaded.anchors(side)
        assert sorted(kept) == sorted(trees)
        for task, tree in trees.items():
            whole = dense(tree)
            np.testing.assert_allclose(dense(kept[task]), whole, atol=1e-5 * np.abs(whole).max())


def test_a_mapping_without_anchors_says_so():
    source, target = make_world(target_rank=2)
    fitted = mapping.fit('pad_truncate', source, target)
    with pytest.raises(InputError, match='by pad_truncate keeps no target adapters'):
        fitted.anchors('target')


@pytest.mark.parametrize('method', ['matched_scaled', 'global_ridge', 'mean_delta'])
def test_an_anchor_is_left_out_as_if_it_had_not_been_there(world, method):
    source, target = world
    fitted = mapping.fit(method, source, target, ridge_lambda=0.1)
    left_out = fitted.left_out()
    assert list(left_out) == list(fitted.tasks)
    rest = [{t: tree for t, tree in side.items() if t != 'task3'} for side in world]
    expected = mapping.fit(method, *rest, ridge_lambda=0.1).predict(source['task3'])
    actual = dense(left_out['task3'])
    # The length of matched_scaled is chosen on all anchors, so directions are compared.
    cosine = actual @ dense(expected) / np.linalg.norm(actual) / np.linalg.norm(dense(expected))
    assert cosine > 0.999


def test_what_is_loaded_or_weighs_no_anchors_leaves_none_out(tmp_path):
    assert of_world('mean').can_leave_out
    of_world('mean').save(tmp_path / 'm')
    for other in (mapping.load(tmp_path / 'm'), of_world('pad_truncate')):
        assert not other.can_leave_out
        with pytest.raises(InputError, match='has no left-out predictions here'):
            other.left_out()


@pytest.mark.parametrize('count', [1, 2])
def test_few_anchors_are_left_out_without_complaint(count):
    fitted = mapping.fit('matched_scaled', *make_world(tasks=count))
    assert all(np.isfinite(dense(adapter)).all() for adapter in fitted.left_out().values())


def test_a_translation_keeps_its_base_and_refuses_one_of_another(world, tmp_path):
    source, target = world
    query = source['task0'] if 'task0' in source else next(iter(source.values()))
    fitted = mapping.fit('delta_ridge', source, target)
    assert (
        repr(fitted)
        == f'TransferMap(delta_ridge, {len(fitted.tasks)} anchors, rank {fitted.output_rank})'
    )
    fitted.save(tmp_path / 'mapping')
    io.write_json(tmp_path / 'mapping' / 'bases.json', {'source': 'a/x', 'target': 'a/y'})
    loaded = mapping.load(tmp_path / 'mapping')
    assert repr(loaded).endswith(', a/x to a/y)')
    config = lora.LoraConfig(rank=2, alpha=2, targets=tuple(query['layers']))
    lora.save_peft(tmp_path / 'adapter', config, query, base_model='a/x')
    translated = loaded.translate(tmp_path / 'adapter')
    assert translated.config.base_model == 'a/y'
    translated.save(tmp_path / 'translated')
    again = lora.load_peft(tmp_path / 'translated')
    assert again.config.base_model == 'a/y'
    expected = loaded.predict(lora.load_peft(tmp_path / 'adapter').tree)
    np.testing.assert_allclose(
        again.tree['layers']['q_proj']['b'], expected['layers']['q_proj']['b'], atol=1e-6
    )
    with pytest.raises(InputError, match=r'belongs to a/y, the mapping translates adapters of a/x'):
        loaded.translate(translated)
