import numpy as np
import pytest

from lorajax import mapping
from lorajax.errors import InputError
from tests.mapping.worlds import SOURCE, TARGET, dense, make_world


@pytest.mark.parametrize('name', ['theseus', 'activation_ridge'])
def test_a_rotated_model_gets_the_rotated_update(name):
    """If the target is the source in other coordinates, the adapter does the same there."""
    source, target = make_world()
    rng = np.random.default_rng(6)
    states, maps = {}, {}
    for side, shapes in (('source', SOURCE), ('target', TARGET)):
        states[f'{side}_inputs'], states[f'{side}_outputs'] = {}, {}
        for projection, (layers, n_in, n_out) in shapes.items():
            if side == 'source':
                x = rng.normal(size=(layers, 60, n_in)).astype('f')
                y = rng.normal(size=(layers, 60, n_out)).astype('f')
            else:
                old_in, old_out = SOURCE[projection][1:]
                q = np.linalg.qr(rng.normal(size=(n_in, old_in)))[0].astype('f')
                p = np.linalg.qr(rng.normal(size=(n_out, old_out)))[0].astype('f')
                maps[projection] = q, p
                x = states['source_inputs'][projection][[0, 2, 3][:layers]] @ q.T
                y = states['source_outputs'][projection][[0, 2, 3][:layers]] @ p.T
            states[f'{side}_inputs'][projection] = x
            states[f'{side}_outputs'][projection] = y
    fitted = mapping.fit(name, source, target, state_penalty=1e-6, **states)
    query = source['task0']
    predicted = fitted.predict(query)
    for projection, (q, p) in maps.items():
        f = query['layers'][projection]
        expected = q @ f['a'][2] @ f['b'][2] @ p.T
        g = predicted['layers'][projection]
        np.testing.assert_allclose(g['a'][1] @ g['b'][1], expected, atol=2e-3)


def test_pad_truncate_keeps_the_common_corner_and_scales():
    source, target = make_world()
    predicted = mapping.fit('pad_truncate', source, target).predict(source['task0'])
    scale = ((20 * 12) / (24 * 16)) ** 0.25
    for layer, match in ((0, 0), (2, 3)):
        f, g = source['task0']['layers']['q_proj'], predicted['layers']['q_proj']
        update = g['a'][layer] @ g['b'][layer]
        np.testing.assert_allclose(
            update[:20, :12], scale * f['a'][match] @ f['b'][match], atol=1e-4
        )
        assert np.abs(update[20:]).max() < 1e-5 and np.abs(update[:, 12:]).max() < 1e-5


def test_missing_and_misshapen_arrays_are_named():
    source, target = make_world()
    with pytest.raises(InputError, match='option source_weights: no q_proj'):
        mapping.fit('cross_lora', source, target)
    weights = {
        f'{side}_weights': {p: np.zeros(shape, 'f') for p, shape in shapes.items()}
        for side, shapes in (('source', SOURCE), ('target', SOURCE))
    }
    with pytest.raises(InputError, match=r'target_weights: q_proj layer 0: expected \(24, 16\)'):
        mapping.fit('cross_lora', source, target, **weights)
    states = {
        f'{side}_{what}': {p: np.ones((n[0], rows, n[k]), 'f') for p, n in shapes.items()}
        for side, shapes, rows in (('source', SOURCE, 5), ('target', TARGET, 6))
        for k, what in ((1, 'inputs'), (2, 'outputs'))
    }
    with pytest.raises(InputError, match='source has 5 positions, target 6'):
        mapping.fit('theseus', source, target, **states)
    weights['target_weights'] = {p: np.ones(shape, 'f') for p, shape in TARGET.items()}
    with pytest.raises(InputError, match='option source_inputs: no q_proj'):
        mapping.fit('cross_lora', source, target, **weights, sign='activations')


def test_scores_on_the_anchors_are_those_of_dense_predictions():
    source, target = make_world()
    fitted = mapping.fit('pad_truncate', source, target)
    cosines = []
    for task in sorted(source):
        prediction, truth = dense(fitted.predict(source[task])), dense(target[task])
        cosines.append(prediction @ truth / np.linalg.norm(prediction) / np.linalg.norm(truth))
    assert abs(fitted.diagnostics['loo_cosine'] - np.mean(cosines)) < 0.05
