"""The mesh, and the rule that every leaf has a row in the table."""

import jax
import pytest

from lorajax import sharding
from lorajax.errors import InputError
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
    assert dict(mesh.shape) == {'data': 1, 'fsdp': 1, 'tensor': 1}


@pytest.mark.parametrize('shape', [(2, 1, 1), (0, -1, 1), (-1, -1, 1), (1, 1)])
def test_meshes_that_do_not_fit_are_refused(shape):
    with pytest.raises(InputError, match='--mesh='):
        sharding.make_mesh(shape, jax.devices()[:1])


def test_an_axis_that_the_mesh_does_not_divide_is_named():
    mesh = jax.sharding.AbstractMesh((1, 3, 1), sharding.MESH_AXES)
    with pytest.raises(InputError, match=r'fsdp = 3 does not divide the axis of 32 of layers/q'):
        sharding.shardings_for(mesh, PARAM_AXES, {'layers/q_proj/kernel': (2, 32, 48)})
