import numpy as np
import pytest

from lorajax import mapping
from lorajax.mapping import combination, stacking
from lorajax.mapping.anchor_weights import KernelWeighting
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.solvers import kernel_ridge
from tests.mapping.worlds import dense, make_world


@pytest.mark.parametrize('name', ['bilinear_ridge', 'stacked'])
def test_stacking_is_at_least_as_good_as_each_part(name):
    source, target = make_world(tasks=10)
    fitted = mapping.fit(name, source, target).diagnostics
    assert min(fitted['coefficients'].values()) >= 0
    alone = mapping.fit('bilinear', source, target).diagnostics['loo_r2']
    assert fitted['loo_r2'] >= max(alone, 0) - 1e-6


def test_a_query_and_the_anchors_have_their_distances_of_the_same_part():
    weightings = {
        'tensors': KernelWeighting(kernel_ridge(fall_back=True), 'delta', 'trace', 'tensor'),
        'whole': KernelWeighting(kernel_ridge(fall_back=True), 'delta', 'trace'),
    }
    source, target = (Anchors(side, 'any') for side in make_world())
    method = stacking.Stacking(weightings, has_bilinear=False)
    state = method.fit(source, target, Options())
    queries = Queries({'strange': make_world(key=5)[0]['task0']})
    first, last = (
        combination.predict(one, combination.fit(one, source, target, Options()), queries, 3)
        for one in weightings.values()
    )
    (found,) = method.predict(state, queries, 3)
    assert found.report['distance_to_span'] == first[0].report['distance_to_span']
    assert found.report['distance_to_span'] != last[0].report['distance_to_span']


def test_coefficients_minimise_the_left_out_error():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(2, 6, 40))
    target = np.einsum('psf,ptf->pst', features, features)
    rows = [rng.normal(size=(2, 6, 6)) + shift * np.eye(6) for shift in (0.8, 0.2, -0.5)]
    grams, truths = stacking._part_products(rows, None, target)
    found = stacking._stack(grams, truths, target)
    scales = np.einsum('pii->p', target) / 6
    own = np.einsum('pii,p->i', target, 1 / scales)

    def error(c):
        total = sum(w * r for w, r in zip(c, rows, strict=True))
        left = np.einsum('pit,ptf->pif', total, features) - features
        return np.einsum('pif,p,i->', left**2, 1 / scales, 1 / own)

    for _ in range(200):
        assert error(found) <= error(np.maximum(found + 0.05 * rng.normal(size=3), 0)) + 1e-9


def test_a_stack_is_the_weighted_sum_of_its_parts():
    source, target = (Anchors(side, 'any') for side in make_world(tasks=6))
    whole = mapping.fit('bilinear_ridge', source, target, output_rank=24)
    query = make_world(key=5)[0]['task0']
    shares = whole.diagnostics['coefficients']
    expected = sum(
        shares[name] * dense(mapping.fit(name, source, target, output_rank=24).predict(query))
        for name in ('delta_ridge', 'bilinear')
    )
    np.testing.assert_allclose(
        dense(whole.predict(query)), expected, atol=1e-4 * np.abs(expected).max()
    )
