"""The device mesh and the one table from logical axes to mesh axes.

Mesh axes: `data` (replicas), `fsdp` (batch and parameters), `tensor` (heads, MLP, vocabulary).
A mesh of one device is the same code.
"""

import math
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lorajax.errors import ArgumentError

MESH_AXES = ('data', 'fsdp', 'tensor')

# Logical axis -> mesh axes. The rank of an adapter is replicated.
RULES: dict[str | None, str | tuple[str, ...] | None] = {
    None: None,
    'batch': ('data', 'fsdp'),
    'replicas': 'data',
    'embed': 'fsdp',
    'vocab': 'tensor',
    'heads': 'tensor',
    'kv_heads': 'tensor',
    'mlp': 'tensor',
}

# Logical axes of activations. Between layers every device has its own rows, and all of the width.
# Of single tokens the rows are few and the weights many: there the width is cut as the weights
# are, so that sums of activations travel, and not the weights of every layer for every token.
# Replicas keep their rows even then.
ACTIVATIONS: dict[str, tuple[str | None, ...]] = {
    'residual': ('batch', None, None),  # B T D
    'residual of one token': ('replicas', None, 'embed'),  # B 1 D
}


def plan_mesh(shape: tuple[int, int, int], count: int) -> AbstractMesh:
    """Returns a mesh of (data, fsdp, tensor) of which nothing but the sizes is known.

    Args:
      shape: as for `make_mesh`; the devices need not be here.
      count: of devices, for an entry of -1 alone.

    Raises:
      ArgumentError: if the shape is none.
    """
    known = math.prod(size for size in shape if size != -1)
    if len(shape) != 3 or shape.count(-1) > 1 or known < 1 or (-1 in shape and count % known):
        raise ArgumentError(
            'mesh',
            ','.join(map(str, shape)),
            f'expected (data,fsdp,tensor), for {count} devices where an entry is -1',
        )
    return AbstractMesh(tuple(count // known if size == -1 else size for size in shape), MESH_AXES)


def make_mesh(shape: tuple[int, int, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of (data, fsdp, tensor) devices; one entry may be -1, "the rest".

    Raises:
      ArgumentError: if the shape does not fit the number of devices.
    """
    devices = list(devices or jax.devices())
    count = len(devices)
    sizes = list(shape)
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and count % known == 0:
        sizes[sizes.index(-1)] = count // known
    if len(sizes) != 3 or any(size < 1 for size in sizes) or math.prod(sizes) != count:
        raise ArgumentError(
            'mesh',
            ','.join(map(str, shape)),
            f'expected (data,fsdp,tensor) with a product of {count}, the number of devices',
        )
    return jax.make_mesh(
        tuple(sizes), MESH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3, devices=devices
    )


def pad_rows(mesh: Mesh | AbstractMesh, count: int) -> int:
    """Returns the least number of batch rows, `count` or more, that the mesh divides evenly."""
    devices = math.prod(mesh.shape[axis] for axis in _names(RULES['batch']))
    return -(-count // devices) * devices


def spec(axes: Sequence[str | None]) -> PartitionSpec:
    """Returns the partition of an array with these logical axes.

    Raises:
      ValueError: if two of the axes map to the same mesh axis.
    """
    entries = [RULES[axis] for axis in axes]
    used = [name for entry in entries for name in _names(entry)]
    if len(used) != len(set(used)):
        raise ValueError(f'{axes} uses a mesh axis twice: {used}')
    return PartitionSpec(*entries)


def sharding(mesh: Mesh | AbstractMesh, *axes: str | None) -> NamedSharding:
    """Returns the sharding of an array with these logical axes; without any it is replicated."""
    return NamedSharding(mesh, spec(axes))


def constrain(x: jax.Array, mesh: Mesh | None, name: str) -> jax.Array:
    """Tells XLA how an activation lies, which it would otherwise guess from the weights.

    Args:
      x: the activation, inside of a compiled function. An axis that the mesh does not divide is
        replicated.
      mesh: of all arrays; None where there is one device.
      name: of `ACTIVATIONS`.

    Raises:
      ValueError: if there is no such activation, or it has other axes.
    """
    if name not in ACTIVATIONS or len(ACTIVATIONS[name]) != x.ndim:
        raise ValueError(f'no rule for the activation {name!r} of {x.ndim} axes')
    if mesh is None:
        return x
    axes = [
        axis if size % math.prod(mesh.shape[part] for part in _names(RULES[axis])) == 0 else None
        for size, axis in zip(x.shape, ACTIVATIONS[name], strict=True)
    ]
    return jax.lax.with_sharding_constraint(x, sharding(mesh, *axes))


def shardings_for(
    mesh: Mesh | AbstractMesh,
    axes: Mapping[str, Sequence[str | None]],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, NamedSharding]:
    """Returns the sharding of each leaf by path, checked against the leaves' shapes.

    Args:
      mesh: the mesh.
      axes: logical axes by path; every path of `shapes` must have a row.
      shapes: shapes by path.

    Raises:
      ArgumentError: naming the leaf, if the mesh does not divide an axis.
    """
    shardings = {}
    for path, shape in shapes.items():
        for size, axis in zip(shape, axes[path], strict=True):
            names = _names(RULES[axis])
            parts = math.prod(mesh.shape[name] for name in names)
            if size % parts:
                raise ArgumentError(
                    'mesh',
                    mesh_text(mesh),
                    f'{"x".join(names)} = {parts} does not divide the axis of {size} of {path} '
                    f'{shape}',
                )
        shardings[path] = sharding(mesh, *axes[path])
    return shardings


def mesh_text(mesh: Mesh | AbstractMesh) -> str:
    """Returns the sizes of a mesh as one writes them, such as '1,8,1'."""
    return ','.join(str(mesh.shape[axis]) for axis in MESH_AXES)


def _names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Returns the mesh axes of an entry of `RULES`."""
    return entry if isinstance(entry, tuple) else (entry,) if entry else ()
