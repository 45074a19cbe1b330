import numpy as np
import pytest

from lorajax import mapping
from lorajax.errors import InputError
from tests.mapping.worlds import dense


@pytest.mark.parametrize('space', ['factor', 'delta'])
def test_a_subset_knows_the_inner_products_of_the_whole(world, space):
    whole = mapping.Anchors(world[0], 'source')
    fresh = whole.subset(['task5', 'task1']).gram(space)  # computed before the whole's
    whole.gram(space)
    sliced = whole.subset(['task5', 'task1'])
    assert sliced.tasks == ('task1', 'task5')
    np.testing.assert_allclose(sliced.gram(space), fresh, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(sliced.gram(space), whole.gram(space)[:, [1, 5]][..., [1, 5]])


def test_a_subset_predicts_as_anchors_read_alone(world):
    source, target = (mapping.Anchors(side, 'any') for side in world)
    few = ['task0', 'task3', 'task4', 'task7']
    alone = [{task: side[task] for task in few} for side in world]
    for name in ('global_ridge', 'topk2_pertensor_ridge', 'delta_ridge'):
        ours = mapping.fit(name, source.subset(few), target.subset(few))
        theirs = mapping.fit(name, *alone)
        query = world[0]['task5']
        for projection, factors in ours.predict(query)['layers'].items():
            expected = theirs.predict(query)['layers'][projection]
            np.testing.assert_allclose(factors['b'], expected['b'], atol=1e-5)


def test_an_unknown_anchor_is_named(world):
    with pytest.raises(InputError, match=r"no source adapter \['task9'\]"):
        mapping.Anchors(world[0], 'source').subset(['task1', 'task9'])


def narrow(adapter, rank):
    """An adapter of lower rank."""
    return {
        'layers': {
            p: {'a': f['a'][..., :rank], 'b': f['b'][:, :rank]}
            for p, f in adapter['layers'].items()
        }
    }


def test_anchors_of_mixed_ranks_are_what_zeros_beside_them_make(world):
    source, target = (side | {'task2': narrow(side['task2'], 1)} for side in world)
    padded = [
        side
        | {
            'task2': {
                'layers': {
                    p: {
                        'a': np.pad(f['a'], ((0, 0), (0, 0), (0, rank - 1))),
                        'b': np.pad(f['b'], ((0, 0), (0, rank - 1), (0, 0))),
                    }
                    for p, f in side['task2']['layers'].items()
                }
            }
        }
        for side, rank in ((source, 2), (target, 3))
    ]
    for name in ('delta_ridge', 'matched_ridge'):
        ours = mapping.fit(name, source, target).predict(world[0]['task5'])
        theirs = mapping.fit(name, *padded).predict(world[0]['task5'])
        np.testing.assert_allclose(dense(ours), dense(theirs), atol=1e-5)
    with pytest.raises(
        InputError, match=r"source adapter 'task2': q_proj: has .* rank 1, expected .* rank 2"
    ):
        mapping.fit('global_ridge', source, target)


def test_mixed_ranks_are_stored_as_they_are(world, tmp_path):
    source = world[0] | {'task2': narrow(world[0]['task2'], 1)}
    fitted = mapping.fit('delta_ridge', source, world[1])
    fitted.save(tmp_path / 'mapping')
    before, after = (
        m.predict(source['task2']) for m in (fitted, mapping.load(tmp_path / 'mapping'))
    )
    np.testing.assert_array_equal(dense(before), dense(after))
