"""Arrays lie where the mesh divides them."""

import dataclasses

import jax
import pytest

from lorajax import sharding
from lorajax.errors import ArgumentError
from lorajax.models import placement, presets


def test_key_and_value_heads_that_the_mesh_does_not_divide_are_replicated():
    mesh = jax.sharding.AbstractMesh((1, 1, 1, 4), sharding.MESH_AXES)
    shape = dataclasses.replace(presets.QWEN2_TINY, vocab_size=96)
    where = placement.param_shardings(mesh, shape)
    assert 'tensor' in where['layers/q_proj/kernel'].spec
    for name in ('k_proj', 'v_proj'):
        for leaf in ('kernel', 'bias'):
            assert 'tensor' not in where[f'layers/{name}/{leaf}'].spec


def test_a_mesh_that_does_not_divide_the_model_is_refused():
    mesh = jax.sharding.AbstractMesh((1, 1, 1, 3), sharding.MESH_AXES)
    with pytest.raises(ArgumentError, match=r'mesh 1,1,3: tensor = 3 does not divide the axis'):
        placement.param_shardings(mesh, presets.QWEN2_TINY)
