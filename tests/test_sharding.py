"""The mesh, and the rule that every leaf has a row in the table."""

import jax
import jax.numpy as jnp
import pytest

from lorajax import sharding
from lorajax.errors import ArgumentError
from lorajax.models import presets
from lorajax.models.hf import names as hf_names
from lorajax.models.transformer import PARAM_AXES


def test_every_parameter_has_its_axes():
    for config in (presets.QWEN2_5_3B, presets.LLAMA3_2_3B, presets.LLAMA3_TINY):
        for path, shape in hf_names.shapes(config).items():
            assert len(PARAM_AXES[path]) == len(shape), path
            sharding.spec(PARAM_AXES[path])


def test_a_mesh_axis_used_twice_is_an_error():
    with pytest.raises(ValueError, match='twice'):
        sharding.spec(('heads', 'mlp'))


def test_one_device_is_the_same_code():
    mesh = sharding.make_mesh((1, -1, 1), jax.devices()[:1])
    assert dict(mesh.shape) == dict.fromkeys(sharding.MESH_AXES, 1)


@pytest.mark.parametrize('shape', [(2, 1, 1), (0, -1, 1), (-1, -1, 1), (1, 1)])
def test_meshes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ArgumentError, match='number of devices') as caught:
        sharding.make_mesh(shape, jax.devices()[:1])
    assert caught.value.argument == 'mesh'
    assert caught.value.value == ','.join(map(str, shape))


def test_an_axis_that_the_mesh_does_not_divide_is_named():
    mesh = jax.sharding.AbstractMesh((1, 1, 3, 1), sharding.MESH_AXES)
    with pytest.raises(
        ArgumentError, match=r'mesh 1,3,1: fsdp = 3 does not divide the axis of 32 of layers/q'
    ):
        sharding.shardings_for(mesh, PARAM_AXES, {'layers/q_proj/kernel': (2, 48, 32)})


@pytest.mark.parametrize(
    ('shape', 'count', 'expected'),
    [
        ((1, 1, 1), 6, 6),
        ((2, 2, 1), 6, 8),
        ((1, 8, 4), 100, 104),
        ((1, 1, 8), 7, 7),
        ((3, 1, 2), 6, 6),
    ],
)
def test_rows_are_added_up_to_what_data_and_fsdp_divide(shape, count, expected):
    mesh = jax.sharding.AbstractMesh((1, *shape), sharding.MESH_AXES)
    assert sharding.pad_rows(mesh, count) == expected


def test_activations_lie_as_their_rule_says_and_none_is_without():
    mesh = jax.sharding.AbstractMesh((3, 2, 2, 1), sharding.MESH_AXES)
    for name in sharding.ACTIVATIONS:
        sharding.spec(sharding.ACTIVATIONS[name])

    def spec_of(shape, name):
        jaxpr = jax.make_jaxpr(lambda x: sharding.constrain(x, mesh, name))(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )
        (equation,) = jaxpr.eqns
        return tuple(equation.params['sharding'].spec)

    assert spec_of((4, 3, 6), 'residual') == (('data', 'fsdp'), None, None)
    assert spec_of((3, 3, 6), 'residual') == (None, None, None)  # three rows on four devices
    assert spec_of((4, 1, 6), 'residual of one token') == ('data', None, 'fsdp')
    assert spec_of((6, 4, 1, 6), 'residual of one token') == ('adapters', 'data', None, 'fsdp')
    assert spec_of((4, 5, 8), 'logits') == (('data', 'fsdp'), None, 'tensor')
    assert spec_of((4, 8), 'logits of one token') == ('data', ('fsdp', 'tensor'))
    with pytest.raises(ValueError, match=r"no rule for the activation 'other' of 3 axes"):
        sharding.constrain(jnp.zeros((1, 1, 1)), None, 'other')
    with pytest.raises(ValueError, match='of 2 axes'):
        sharding.constrain(jnp.zeros((1, 1)), None, 'residual')
    with pytest.raises(ValueError, match="no rule for the leaf 'layers/new'"):
        sharding.shardings_for(mesh, PARAM_AXES, {'layers/new': (1,)})


def test_a_sharding_without_axes_is_replicated():
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    assert sharding.sharding(mesh).is_fully_replicated
    assert sharding.mesh_text(mesh) == '1,1,1'


def test_a_mesh_is_planned_without_its_devices():
    sizes = {'adapters': 1, 'data': 4, 'fsdp': 8, 'tensor': 1}
    assert dict(sharding.plan_mesh((4, 8, 1), 1).shape) == sizes
    assert sharding.mesh_text(sharding.plan_mesh((1, 2, 1, -1), 8)) == '1,2,1,4'
    assert sharding.mesh_text(sharding.plan_mesh((2, -1, 1), 8)) == '2,4,1'
    for shape in ((3, -1, 1), (0, 1, 1), (-1, -1, 1), (1, 1), (-2, -2, 1)):
        with pytest.raises(ArgumentError, match=r'tensor\[,adapters\], for 8 devices'):
            sharding.plan_mesh(shape, 8)
