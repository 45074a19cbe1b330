"""The device mesh and the one table from logical axes to mesh axes.

Mesh axes: `adapters` (each part has adapters of its own, and their rows), `data` (replicas), `fsdp`
(batch and parameters), `tensor` (heads, MLP, vocabulary). A mesh of one device is the same code.
"""

import math
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lorajax.errors import ArgumentError

# Neighbours last, as what talks most should be close.
MESH_AXES = ('adapters', 'data', 'fsdp', 'tensor')
_WRITTEN = ('data', 'fsdp', 'tensor', 'adapters')  # the order in which sizes are given

# Logical axis -> mesh axes. The rank of an adapter is replicated.
RULES: dict[str | None, str | tuple[str, ...] | None] = {
    None: None,
    'adapters': 'adapters',
    'batch': ('data', 'fsdp'),
    'packed': ('adapters', 'data', 'fsdp'),  # rows of a training step lie with their adapters
    'replicas': 'data',
    'embed': 'fsdp',
    'vocab': 'tensor',
    'classes': ('fsdp', 'tensor'),  # the vocabulary, of single tokens
    'heads': 'tensor',
    'kv_heads': 'tensor',
    'mlp': 'tensor',
}

# Logical axes of activations; those of stacked adapters have their axis before these. Between
# layers every device has its own rows, and all of the width. Of single tokens the rows are few and
# the weights many: there the width is cut as the weights are, so that sums of activations travel,
# and not the weights of every layer for every token. Replicas keep their rows even then.
ACTIVATIONS: dict[str, tuple[str | None, ...]] = {
    'residual': ('batch', None, None),  # B T D
    'residual of one token': ('replicas', None, 'embed'),  # B 1 D
    'logits': ('batch', None, 'vocab'),  # B T V
    'logits of one token': ('replicas', 'classes'),  # B V
}


def plan_mesh(shape: Sequence[int], count: int) -> AbstractMesh:
    """Returns a mesh of which nothing but the sizes is known.

    Args:
      shape: as for `make_mesh`; the devices need not be here.
      count: of devices, for an entry of -1 alone.

    Raises:
      ArgumentError: if the shape is none.
    """
    sizes = _sizes(shape, count)
    if sizes is None:
        raise ArgumentError(
            'mesh',
            ','.join(map(str, shape)),
            f'expected data,fsdp,tensor[,adapters], for {count} devices where an entry is -1',
        )
    return AbstractMesh(sizes, MESH_AXES)


def make_mesh(shape: Sequence[int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of devices.

    Args:
      shape: sizes of data, fsdp, tensor and, if there are four, adapters; one may be -1, "the
        rest".
      devices: all there are if None.

    Raises:
      ArgumentError: if the shape does not fit the number of devices.
    """
    devices = list(devices or jax.devices())
    sizes = _sizes(shape, len(devices))
    if sizes is None or math.prod(sizes) != len(devices):
        raise ArgumentError(
            'mesh',
            ','.join(map(str, shape)),
            f'expected data,fsdp,tensor[,adapters] with a product of {len(devices)}, the number '
            'of devices',
        )
    kinds = (jax.sharding.AxisType.Auto,) * len(MESH_AXES)
    return jax.make_mesh(sizes, MESH_AXES, axis_types=kinds, devices=devices)


def _sizes(shape: Sequence[int], count: int) -> tuple[int, ...] | None:
    """Returns the sizes of `MESH_AXES` that a shape stands for; None if it is no shape."""
    known = math.prod(size for size in shape if size != -1)
    if len(shape) not in (3, 4) or shape.count(-1) > 1 or min(shape) < -1 or known < 1:
        return None
    if -1 in shape and count % known:
        return None
    *inner, adapters = (*shape, 1)[:4]
    return tuple(count // known if size == -1 else size for size in (adapters, *inner))


def pad_rows(mesh: Mesh | AbstractMesh, count: int) -> int:
    """Returns the least number of batch rows, `count` or more, that the mesh divides evenly."""
    devices = math.prod(mesh.shape[axis] for axis in _names(RULES['batch']))
    return -(-count // devices) * devices


def pad_adapters(mesh: Mesh | AbstractMesh, count: int) -> int:
    """Returns the least number of adapters, `count` or more, that the mesh divides evenly."""
    return -(-count // mesh.shape['adapters']) * mesh.shape['adapters']


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
      x: the activation, inside of a compiled function, or those of stacked adapters. An axis that
        the mesh does not divide is replicated.
      mesh: of all arrays; None where there is one device.
      name: of `ACTIVATIONS`.

    Raises:
      ValueError: if there is no such activation, or it has other axes.
    """
    rule = ACTIVATIONS.get(name, ())
    rule = ('adapters', *rule) if x.ndim == len(rule) + 1 else rule
    if name not in ACTIVATIONS or len(rule) != x.ndim:
        raise ValueError(f'no rule for the activation {name!r} of {x.ndim} axes')
    if mesh is None:
        return x
    return jax.lax.with_sharding_constraint(x, divided(mesh, x.shape, rule))


def divided(
    mesh: Mesh | AbstractMesh, shape: Sequence[int], axes: Sequence[str | None]
) -> NamedSharding:
    """Returns the sharding of an array with these axes, whole where the mesh divides not."""
    parts = [math.prod(mesh.shape[name] for name in _names(RULES[axis])) for axis in axes]
    return sharding(
        mesh,
        *(
            axis if size % part == 0 else None
            for size, part, axis in zip(shape, parts, axes, strict=True)
        ),
    )


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
      ValueError: naming the leaf, if it has no row.
    """
    shardings = {}
    for path, shape in shapes.items():
        if path not in axes:
            raise ValueError(f'no rule for the leaf {path!r}')
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
    """Returns the sizes of a mesh as one writes them, such as '1,8,1' or '1,1,1,8'."""
    written = _WRITTEN if mesh.shape['adapters'] > 1 else _WRITTEN[:3]
    return ','.join(str(mesh.shape[axis]) for axis in written)


def _names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Returns the mesh axes of an entry of `RULES`."""
    return entry if isinstance(entry, tuple) else (entry,) if entry else ()
