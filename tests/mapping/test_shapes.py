import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.mapping import shapes
from lorajax.mapping.shapes import Shape


def adapter(rank=2, layers=3, n_in=4, n_out=5):
    return {
        'layers': {
            'v_proj': {'a': np.ones((layers, n_in, rank)), 'b': np.ones((layers, rank, n_out))},
            'q_proj': {'a': np.ones((layers, n_in, 1)), 'b': np.ones((layers, 1, n_out))},
        }
    }


def test_projections_come_in_their_fixed_order():
    found = shapes.read_shapes(adapter(), 'it')
    assert list(found) == ['q_proj', 'v_proj']
    assert found['v_proj'] == Shape(layers=3, n_in=4, rank=2, n_out=5)


@pytest.mark.parametrize(
    ('tree', 'message'),
    [
        ([], 'it: expected an adapter tree'),
        ({'layers': {}}, 'it: expected an adapter tree'),
        ({'layers': {'q_prj': {}}}, "it: unknown projection 'q_prj'; did you mean q_proj"),
        ({'layers': {'q_proj': {'a': np.ones((1, 2, 3))}}}, 'it: q_proj: expected the two factors'),
        (
            {'layers': {'q_proj': {'a': np.ones((1, 2, 3)), 'b': np.ones((1, 4, 3))}}},
            r'it: q_proj: expected a \[L, in, R\] and b',
        ),
    ],
)
def test_what_is_no_adapter_is_named(tree, message):
    with pytest.raises(InputError, match=message):
        shapes.read_shapes(tree, 'it')


def test_ranks_may_differ_where_only_products_count():
    wide, narrow = (shapes.read_shapes(adapter(rank), 'it') for rank in (6, 2))
    shapes.check_matches(narrow, wide, 'it', any_rank=True)
    with pytest.raises(InputError, match=r'it: v_proj: has .* rank 2, expected .* rank 6'):
        shapes.check_matches(narrow, wide, 'it', any_rank=False)
    other = shapes.read_shapes(adapter(n_in=7), 'it')
    with pytest.raises(
        InputError, match=r'it: q_proj: has 3 layers of 7 to 5, .* expected 3 layers of 4 to 5'
    ):
        shapes.check_matches(other, wide, 'it', any_rank=True)
    assert shapes.widest([narrow, wide, narrow]) == wide


def test_widened_factors_have_the_same_product():
    rng = np.random.default_rng(0)
    tree = {
        'layers': {'q_proj': {'a': rng.normal(size=(1, 4, 2)), 'b': rng.normal(size=(1, 2, 5))}}
    }
    a, b = shapes.read_layer(tree, 'q_proj', 0, rank=3)
    assert a.shape == (4, 3) and b.shape == (3, 5) and a.dtype == b.dtype == np.float32
    x, y = shapes.read_layer(tree, 'q_proj', 0)
    np.testing.assert_allclose(a @ b, x @ y, rtol=1e-6)
