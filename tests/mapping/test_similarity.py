"""Similarity of base models, against closed forms."""

import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.mapping import similarity


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_weights_are_compared_kernel_by_kernel():
    one = {'q_proj': draw(2, 3, 4), 'up_proj': draw(2, 3, 5, seed=1)}
    assert similarity.weight_cosine(one, one) == pytest.approx(1.0)
    assert similarity.weight_cosine(one, {p: -2.0 * w for p, w in one.items()}) == pytest.approx(-1)
    half = {**one, 'up_proj': draw(2, 3, 6)}  # of another shape: not compared
    assert similarity.weight_cosine(one, half) == pytest.approx(1.0)
    orthogonal = {'q_proj': np.eye(4)[None, :1]}, {'q_proj': np.eye(4)[None, 1:2]}
    assert similarity.weight_cosine(*orthogonal) == pytest.approx(0.0)


def test_models_without_a_common_shape_have_no_cosine():
    assert np.isnan(similarity.weight_cosine({'q_proj': draw(1, 2, 3)}, {'q_proj': draw(1, 2, 4)}))
    with pytest.raises(InputError, match='no kernels to compare'):
        similarity.weight_cosine({}, {'q_proj': draw(1, 2, 3)})


def test_cka_ignores_rotations_scales_and_offsets_and_nothing_else():
    x = draw(200, 6)
    rotation, _ = np.linalg.qr(draw(6, 6, seed=1))
    assert similarity.linear_cka(x, 3.0 * x @ rotation + 5.0) == pytest.approx(1.0)
    assert similarity.linear_cka(x, draw(200, 6, seed=2)) < 0.1
    # kernels, centred: the definition
    y = x @ draw(6, 4, seed=3)
    centre = np.eye(200) - 1.0 / 200
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    expected = np.sum(k * m) / np.linalg.norm(k) / np.linalg.norm(m)
    assert similarity.linear_cka(x, y) == pytest.approx(expected)


@pytest.mark.parametrize('shapes', [((3, 2), (4, 2)), ((3,), (3, 2)), ((1, 2), (1, 2))])
def test_representations_of_other_things_are_refused(shapes):
    with pytest.raises(InputError, match='activations are'):
        similarity.linear_cka(*(np.zeros(shape) for shape in shapes))


def test_layers_are_compared_at_equal_depth():
    states = {'q_proj': draw(3, 50, 4)}
    assert similarity.activation_cka(states, states) == pytest.approx(1.0)
    deeper = {'q_proj': states['q_proj'][[0, 0, 1, 2, 2]]}
    assert similarity.activation_cka(states, deeper) == pytest.approx(1.0)
    with pytest.raises(InputError, match='no projection in common'):
        similarity.activation_cka(states, {'up_proj': states['q_proj']})
