"""The device mesh and the one table from logical axes to mesh axes.

Mesh axes: `data` (replicas), `fsdp` (batch and parameters), `tensor` (heads, MLP, vocabulary).
A mesh of one device is the same code.
"""

import math

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lorajax.errors import InputError

MESH_AXES = ('data', 'fsdp', 'tensor')

# Logical axis -> mesh axes. The rank of an adapter is replicated.
RULES: dict[str | None, str | tuple[str, ...] | None] = {
    None: None,
    'batch': ('data', 'fsdp'),
    'embed': 'fsdp',
    'vocab': 'tensor',
    'heads': 'tensor',
    'kv_heads': 'tensor',
    'mlp': 'tensor',
}


def make_mesh(shape: tuple[int, int, int], devices: list[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of (data, fsdp, tensor) devices; one entry may be -1, "the rest".

    Raises:
      InputError: if the shape does not fit the number of devices.
    """
    devices = devices or jax.devices()
    count = len(devices)
    sizes = list(shape)
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and count % known == 0:
        sizes[sizes.index(-1)] = count // known
    if len(sizes) != 3 or any(size < 1 for size in sizes) or math.prod(sizes) != count:
        raise InputError(
            f'--mesh={",".join(map(str, shape))}: expected (data,fsdp,tensor) with a product of '
            f'{count}, the number of devices'
        )
    return jax.make_mesh(
        tuple(sizes), MESH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3, devices=devices
    )


def spec(axes: tuple[str | None, ...]) -> PartitionSpec:
    """Returns the partition of an array with these logical axes.

    Raises:
      ValueError: if two of the axes map to the same mesh axis.
    """
    entries = [RULES[axis] for axis in axes]
    used = [m for e in entries if e for m in (e if isinstance(e, tuple) else (e,))]
    if len(used) != len(set(used)):
        raise ValueError(f'{axes} uses a mesh axis twice: {used}')
    return PartitionSpec(*entries)


def sharding(mesh: Mesh, *axes: str | None) -> NamedSharding:
    """Returns the sharding of an array with these logical axes."""
    return NamedSharding(mesh, spec(axes))


def shardings_for(
    mesh: Mesh, axes: dict[str, tuple[str | None, ...]], shapes: dict[str, tuple[int, ...]]
) -> dict[str, NamedSharding]:
    """Returns the sharding of each leaf by path, checked against the leaves' shapes.

    Args:
      mesh: the mesh.
      axes: logical axes by path; every path of `shapes` must have a row.
      shapes: shapes by path.

    Raises:
      InputError: naming the leaf, if the mesh does not divide an axis.
    """
    result = {}
    for path, shape in shapes.items():
        partition = spec(axes[path])
        for size, entry in zip(shape, partition, strict=True):
            names = entry if isinstance(entry, tuple) else (entry,) if entry else ()
            parts = math.prod(mesh.shape[name] for name in names)
            if size % parts:
                raise InputError(
                    f'--mesh: {"x".join(names)} = {parts} does not divide the axis of {size} '
                    f'of {path} {shape}'
                )
        result[path] = NamedSharding(mesh, partition)
    return result
