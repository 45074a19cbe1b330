"""Where the arrays of a base and of its adapters lie on a mesh."""

from collections.abc import Sequence

from jax.sharding import AbstractMesh, Mesh, NamedSharding

from lorajax import sharding
from lorajax.models.config import ModelConfig
from lorajax.models.hf import names as hf_names
from lorajax.models.transformer import PARAM_AXES
from lorajax.types import Adapter


def param_shardings(mesh: Mesh | AbstractMesh, config: ModelConfig) -> dict[str, NamedSharding]:
    """Returns the sharding of each base parameter by path.

    Raises:
      ArgumentError: if the mesh does not divide the model.
    """
    return sharding.shardings_for(mesh, param_axes(mesh, config), hf_names.shapes(config))


def param_axes(mesh: Mesh | AbstractMesh, config: ModelConfig) -> dict[str, tuple[str | None, ...]]:
    """Returns the logical axes of each base parameter by path.

    Key and value heads are replicated where the mesh's tensor axis does not divide their number:
    half a head on a device would make every attention a sum over devices.
    """
    if config.num_kv_heads % mesh.shape['tensor'] == 0:
        return PARAM_AXES
    return {
        path: tuple(None if axis == 'kv_heads' else axis for axis in axes)
        for path, axes in PARAM_AXES.items()
    }


def adapter_shardings(
    mesh: Mesh | AbstractMesh, config: ModelConfig, targets: Sequence[str], count: int = 0
) -> Adapter:
    """Returns the sharding of every leaf of stacked adapters, the rank replicated.

    `a` [A, L, in, R] follows the input axis of its base kernel, `b` [A, L, R, out] the output
    axis.

    Args:
      mesh: where the base lies.
      config: of the base.
      targets: adapted projections.
      count: A; the adapters are spread over the mesh's axis of that name if it divides them.
    """
    layers, axes = {}, param_axes(mesh, config)
    spread = None if count % mesh.shape['adapters'] else 'adapters'
    for name in targets:
        _, fan_out, fan_in = axes[f'layers/{name}/kernel']
        layers[name] = {
            'a': sharding.sharding(mesh, spread, None, fan_in, None),
            'b': sharding.sharding(mesh, spread, None, None, fan_out),
        }
    return {'layers': layers}
