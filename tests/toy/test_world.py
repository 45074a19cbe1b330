"""The functions of the toy world do what their names say."""

import numpy as np
import pytest

from lorajax.toy import world


def test_functions_do_what_their_names_say():
    symbols = np.array([1, 2, 3, 9])
    keep, reverse = world.Function('math', 'keep', 3), world.Function('math', 'reverse', 3)
    np.testing.assert_array_equal(keep.apply(symbols), [4, 5, 6, 2])
    np.testing.assert_array_equal(reverse.apply(symbols), [2, 6, 5, 4])


def test_prompts_show_the_tags_that_are_known():
    function = world.Function('code', 'reverse', 5)
    symbols = np.array([0, 1, 9, 3])
    assert function.task == 'toy_code_reverse_5'
    assert function.prompt(symbols, True, True) == 'code reverse five ca cb cj cd'
    assert function.prompt(symbols, False, True) == 'code ? five ca cb cj cd'
    assert function.prompt(symbols, False, False) == 'code ? ? ca cb cj cd'


@pytest.mark.parametrize('seed', range(20))
def test_every_split_has_two_heldouts_of_a_domain_one_of_each_order(seed):
    toy = world.World(split_seed=seed)
    anchors, heldouts = toy.split()
    assert len(toy.functions) == 24 and len(anchors) == 16 and len(set(anchors)) == 16
    assert set(anchors).isdisjoint(heldouts) and {*anchors, *heldouts} <= set(toy.functions)
    assert sorted((f.domain, f.order) for f in heldouts) == sorted(
        (domain, order) for domain in world.DOMAINS for order in world.ORDERS
    )


def test_functions_of_a_world_differ_on_some_input():
    inputs = world.inputs()
    assert inputs.shape == (10_000, 4) and len(np.unique(inputs, axis=0)) == 10_000
    images = {f.apply(inputs).tobytes() for f in world.DEFAULT.functions if f.domain == 'math'}
    assert len(images) == 8
