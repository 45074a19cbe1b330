"""A prior from activations, corrected on the anchors, against dense float64 arithmetic."""

import numpy as np
import pytest

from lorajax import mapping
from lorajax.mapping.baselines.prior_correction import _scale
from lorajax.mapping.kernel_alignment import KernelAlignment
from lorajax.mapping.queries import Queries
from tests.mapping.worlds import SOURCE, TARGET, dense, make_world, split


def states(seed=6):
    """Random activations of both sides, [L, S, features] by projection."""
    rng = np.random.default_rng(seed)
    return {
        f'{side}_{what}': {
            p: rng.normal(size=(sizes[0], 40, sizes[1 + (what == 'outputs')])).astype('f')
            for p, sizes in shapes.items()
        }
        for side, shapes in (('source', SOURCE), ('target', TARGET))
        for what in ('inputs', 'outputs')
    }


def carried(world_source, target, given):
    """Theseus' translation of every source adapter, dense."""
    prior = mapping.fit('theseus', world_source, target, output_rank=8, **given)
    return {task: dense(prior.predict(tree)) for task, tree in world_source.items()}


def test_a_prediction_is_the_weighted_sum_and_the_carried_rest():
    source, target = make_world()
    (rest_x, query), (rest_y, _) = split(source, 'task7'), split(target, 'task7')
    given = states()
    fitted = mapping.fit('anchored_theseus', rest_x, rest_y, output_rank=40, **given)
    # Random activations tell nothing, so the scale is set by hand to see the arithmetic.
    fitted.state.arrays['prior_scale'] = np.array(0.7)
    prediction = fitted.explain(query['task7'])
    plain = mapping.fit('matched_ridge', rest_x, rest_y, output_rank=40).explain(query['task7'])
    prior = carried(source, target, given)
    weights = mapping.fit('matched_ridge', rest_x, rest_y).state
    found = fitted.state
    queries = Queries({'q': query['task7']})
    rows = KernelAlignment().weights(weights.arrays, weights.source, queries)[0].weights
    sizes = [(shape[1] * shape[2]) for shape in TARGET.values() for _ in range(shape[0])]
    pieces = {task: np.split(vector, np.cumsum(sizes)[:-1]) for task, vector in prior.items()}
    order = [*[('q_proj', i) for i in range(3)], *[('v_proj', i) for i in range(3)]]
    assert list(found.tensors) == order
    added = np.concatenate(
        [
            pieces['task7'][i]
            - sum(rows[i, t] * pieces[task][i] for t, task in enumerate(sorted(rest_x)))
            for i in range(len(order))
        ]
    )
    expected = dense(plain.adapter) + 0.7 * added
    np.testing.assert_allclose(dense(prediction.adapter), expected, atol=2e-3)
    assert np.abs(added).max() > 0.1


def test_a_target_that_is_the_rotated_source_is_recovered_beyond_the_span():
    source, _ = make_world(tasks=8, source_rank=2)
    rng = np.random.default_rng(1)
    shapes = {p: (4, n_in + 4, n_out + 4) for p, (_, n_in, n_out) in SOURCE.items()}
    given = {
        f'{side}_{what}': {} for side in ('source', 'target') for what in ('inputs', 'outputs')
    }
    target = {task: {'layers': {}} for task in source}
    for p, (layers, n_in, n_out) in SOURCE.items():
        q = np.linalg.qr(rng.normal(size=(shapes[p][1], n_in)))[0].astype('f')
        r = np.linalg.qr(rng.normal(size=(shapes[p][2], n_out)))[0].astype('f')
        given['source_inputs'][p] = rng.normal(size=(layers, 60, n_in)).astype('f')
        given['source_outputs'][p] = rng.normal(size=(layers, 60, n_out)).astype('f')
        given['target_inputs'][p] = given['source_inputs'][p] @ q.T
        given['target_outputs'][p] = given['source_outputs'][p] @ r.T
        for task, tree in source.items():
            entry = tree['layers'][p]
            target[task]['layers'][p] = {'a': q @ entry['a'], 'b': entry['b'] @ r.T}
    # A task that none of the anchors resembles.
    (rest_x, query), (rest_y, truth) = split(source, 'task7'), split(target, 'task7')
    fitted = mapping.fit('anchored_theseus', rest_x, rest_y, output_rank=40, **given)
    assert fitted.diagnostics['prior_scale'] == pytest.approx(1.0, abs=1e-3)
    error = dense(fitted.predict(query['task7'])) - dense(truth['task7'])
    plain = mapping.fit('matched_ridge', rest_x, rest_y, output_rank=40).predict(query['task7'])
    assert np.linalg.norm(error) < 1e-3 * np.linalg.norm(dense(truth['task7']))
    assert np.linalg.norm(dense(plain) - dense(truth['task7'])) > 100 * np.linalg.norm(error)
    assert fitted.diagnostics['loo_r2'] > 0.999


def test_the_scale_minimises_the_left_out_error_and_random_activations_get_none():
    rng = np.random.default_rng(0)
    gram = np.stack([np.eye(5) * k for k in (1.0, 4.0)])
    overlap, length = rng.normal(size=(2, 5)) + 0.5, rng.uniform(1, 2, size=(2, 5))
    best = _scale(overlap, length, gram)

    def error(c):
        own = (c**2 * length - 2 * c * overlap) / np.array([1.0, 4.0])[:, None]
        return own.sum()

    assert best > 0 and error(best) < min(error(best + 0.01), error(best - 0.01))
    assert _scale(-np.abs(overlap), length, gram) == 0.0
    source, target = make_world()
    fitted = mapping.fit('anchored_theseus', source, target, **states())
    plain = mapping.fit('matched_ridge', source, target)
    assert fitted.diagnostics['loo_r2'] >= plain.diagnostics['loo_r2'] - 1e-9
    assert fitted.diagnostics['prior_scale'] < 0.2
