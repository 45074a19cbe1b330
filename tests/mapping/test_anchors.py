import numpy as np
import pytest

from lorajax import mapping
from lorajax.errors import InputError


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
