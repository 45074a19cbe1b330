"""How a training begins, and where its arrays lie."""

import dataclasses

import jax
import numpy as np

from lorajax import sharding
from lorajax.models.presets import QWEN2_TINY
from lorajax.training.optimizer import make_optimizer
from lorajax.training.state import (
    init_state,
    narrow,
    replace_one,
    stacked_shape,
    state_shardings,
)
from tests.training.examples import CONFIG

MESH = sharding.make_mesh((1, 1, 1), jax.devices()[:1])


def test_only_targets_are_trained_and_initial_a_is_shared():
    config = dataclasses.replace(CONFIG, targets=('q_proj', 'down_proj'))
    state = init_state(QWEN2_TINY, config, ['a', 'b'], MESH)
    assert set(state.adapters['layers']) == {'q_proj', 'down_proj'}
    for entry in state.adapters['layers'].values():
        np.testing.assert_array_equal(entry['a'][0], entry['a'][1])
        assert not np.asarray(entry['b']).any()
        assert np.abs(np.asarray(entry['a'])).max() <= entry['a'].shape[2] ** -0.5
        assert not np.array_equal(entry['a'][0, 0], entry['a'][0, 1])  # layers differ


def test_separate_init_depends_on_the_task_and_not_on_its_company():
    config = dataclasses.replace(CONFIG, separate_init=True)

    def first(*tasks, repeat=0):
        chosen = dataclasses.replace(config, repeat=repeat)
        state = init_state(QWEN2_TINY, chosen, tasks, MESH)
        return np.asarray(state.adapters['layers']['q_proj']['a'])

    both = first('a', 'b')
    assert np.abs(both[0] - both[1]).max() > 0.01
    np.testing.assert_array_equal(both[1], first('b')[0])
    assert np.abs(first('a', repeat=1)[0] - both[0]).max() > 0.01


def test_adapters_of_several_recipes_begin_as_alone_with_zeros_in_the_rest():
    narrower = dataclasses.replace(CONFIG, rank=2, targets=('v_proj', 'q_proj'), seed=9)
    configs = [CONFIG, narrower]
    assert stacked_shape(QWEN2_TINY, configs) == (4, CONFIG.targets)
    assert stacked_shape(QWEN2_TINY, [narrower]) == (2, ('q_proj', 'v_proj'))
    state = init_state(QWEN2_TINY, configs, ['a', 'b'], MESH)
    for place, config in enumerate(configs):
        inside = jax.tree.map(lambda leaf, place=place: np.asarray(leaf[place]), state.adapters)
        alone = init_state(QWEN2_TINY, config, ['x'], MESH).adapters
        alone = jax.tree.map(lambda leaf: np.asarray(leaf[0]), alone)
        jax.tree.map(np.testing.assert_array_equal, narrow(inside, config), alone)
    assert not np.asarray(state.adapters['layers']['q_proj']['a'][1, ..., 2:]).any()
    assert not np.asarray(state.adapters['layers']['k_proj']['a'][1]).any()


def test_a_place_is_taken_again_with_fresh_moments():
    state = init_state(QWEN2_TINY, CONFIG, ['a', 'b'], MESH)
    state = jax.tree.map(lambda leaf: leaf + 1, state)
    before = jax.tree.map(np.array, state)
    fresh = init_state(QWEN2_TINY, dataclasses.replace(CONFIG, seed=5), ['c'], MESH)
    after = replace_one(state, 1, fresh)
    for new, old, one in zip(*map(jax.tree.leaves, (after, before, fresh)), strict=True):
        np.testing.assert_array_equal(new[0], old[0])
        np.testing.assert_array_equal(new[1], one[0])


def test_a_repeated_training_starts_from_the_same_factors():
    again = dataclasses.replace(CONFIG, repeat=1)
    states = [init_state(QWEN2_TINY, c, ['a'], MESH).adapters for c in (CONFIG, again)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_every_leaf_of_a_state_has_a_sharding_and_moments_lie_where_their_factors_lie():
    mesh = jax.sharding.AbstractMesh((2, 2, 4, 2), sharding.MESH_AXES)
    shardings = state_shardings(mesh, QWEN2_TINY, make_optimizer(CONFIG), CONFIG.targets)
    state = init_state(QWEN2_TINY, CONFIG, ['a', 'b'], MESH)
    assert jax.tree.structure(shardings) == jax.tree.structure(state)
    for leaf, where in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
        assert len(where.spec) in (0, leaf.ndim)
    factors = shardings.adapters['layers']
    spec = jax.sharding.PartitionSpec
    assert factors['q_proj']['a'].spec == spec('adapters', None, 'fsdp', None)
    assert factors['q_proj']['b'].spec == spec('adapters', None, None, 'tensor')
    assert factors['k_proj']['b'].spec == spec('adapters', None, None, 'tensor')
    assert factors['down_proj']['a'].spec == spec('adapters', None, 'tensor', None)
    assert factors['down_proj']['b'].spec == spec('adapters', None, None, 'fsdp')
    adam = next(s for s in shardings.opt_state if hasattr(s, 'mu'))
    assert adam.mu == adam.nu == shardings.adapters
    assert adam.count.spec == spec()


def test_key_and_value_heads_that_the_mesh_does_not_divide_are_replicated():
    mesh = jax.sharding.AbstractMesh((1, 1, 2, 4), sharding.MESH_AXES)
    assert QWEN2_TINY.num_kv_heads == 2
    layers = state_shardings(mesh, QWEN2_TINY, make_optimizer(CONFIG), CONFIG.targets).adapters[
        'layers'
    ]
    spec = jax.sharding.PartitionSpec
    assert (
        layers['k_proj']['b'].spec
        == layers['v_proj']['b'].spec
        == spec('adapters', None, None, None)
    )
    assert layers['q_proj']['b'].spec == spec('adapters', None, None, 'tensor')
