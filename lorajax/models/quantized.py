"""Frozen weights in few bits: int8, half the bytes of bfloat16, or int4, a quarter and a little.

int8: every output channel of a projection has a scale of its own, and the product is taken before
it is scaled: y = s * (Q x), with W ~ s Q. So no kernel is ever written out in full.

int4: every group of 32 inputs of a channel has a scale, bfloat16, such that the weight of largest
magnitude is -8 steps: 4.5 bits a weight. Such a scale lies within the sum, so the kernel of one
layer at a time is written out in the dtype of the computation. On normal numbers its error (8.5 %
of the norm) is that of NF4 with groups of 32 (8.7 %), which would need a table look-up.

Adapters are trained beside such a base as beside any other; embeddings, biases and norms stay as
they are. A backward pass keeps the few bits, and no kernel that was written out.

Source: Dettmers et al. 2022 (LLM.int8), section 2.1 (vector-wise quantization of weights); Dettmers
et al. 2023 (QLoRA) for adapters beside a quantized base, and for groups; llama.cpp, `Q4_0`, for
the sign of the scale.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from lorajax.types import Params

NONE, INT8, INT4 = 'none', 'int8', 'int4'
KINDS = (NONE, INT8, INT4)
SCALE = 'kernel_scale'  # beside a kernel of int8 or int4
_GROUP = 32  # inputs that share a scale of int4
_MOST = {INT8: 127, INT4: -8}


def is_quantized(path: str) -> bool:
    """Returns whether the leaf at a path of the parameter tree is a kernel that is quantized."""
    return path.startswith('layers/') and path.endswith('_proj/kernel')


def quantize(params: Params, kind: str = INT8) -> Params:
    """Returns base weights with the kernels of all projections quantized.

    Args:
      params: as `load_params` gives them; the kernels are donated, so that no second set of them
        is needed. Each is replaced where it lies.
      kind: of `KINDS`, but not `NONE`.
    """
    layers = {
        name: {**entry, **quantize_kernel(entry['kernel'], kind)} if 'kernel' in entry else entry
        for name, entry in params['layers'].items()
    }
    return {**params, 'layers': layers}


def quantize_kernel(kernel: jax.Array, kind: str) -> dict[str, jax.Array]:
    """Returns the entries that take the place of a stacked kernel [L, out, in], which is deleted.

    Args:
      kernel: of any float dtype.
      kind: of `KINDS`, but not `NONE`.

    Returns:
      For int8 'kernel' int8[L, out, in] and `SCALE` float32[L, out]; for int4 'kernel'
      uint8[L, out / 2, in], whose low and high four bits are channels 2 i and 2 i + 1, and `SCALE`
      bfloat16[L, out, in / 32], or of the largest divisor of `in` below 32.
    """
    chex.assert_rank(kernel, 3)
    shapes = shapes_of(kernel.shape, kind)
    where: Any = kernel.sharding
    both: Any = (where, where)
    if isinstance(where, NamedSharding):
        spec = where.spec
        both = tuple(placed(where.mesh, spec, shape) for shape, _ in shapes)
    values, scale = _round(kind, *both)(kernel)
    jax.block_until_ready(values)
    kernel.delete()
    return {'kernel': values, SCALE: scale}


def shapes_of(shape: tuple[int, ...], kind: str) -> tuple[tuple[tuple[int, ...], Any], ...]:
    """Returns shape and dtype of the values and of the scales for a kernel [..., out, in]."""
    *lead, fan_out, fan_in = shape
    if kind == INT8:
        return (shape, jnp.int8), ((*lead, fan_out), jnp.float32)
    groups = fan_in // group_size(fan_in)
    return ((*lead, fan_out // 2, fan_in), jnp.uint8), ((*lead, fan_out, groups), jnp.bfloat16)


def group_size(fan_in: int) -> int:
    """Returns how many of a channel's inputs share a scale of int4."""
    return next(size for size in range(min(_GROUP, fan_in), 0, -1) if fan_in % size == 0)


def bytes_of(shape: tuple[int, ...], kind: str) -> int:
    """Returns the bytes of a quantized kernel [..., out, in] with its scales."""
    return sum(math.prod(s) * np.dtype(dtype).itemsize for s, dtype in shapes_of(shape, kind))


def product(x: jax.Array, entry: Mapping[str, Any], **options: Any) -> jax.Array:
    """Returns W x of a projection, whose kernel may be quantized.

    Args:
      x: [..., in].
      entry: 'kernel' [out, in]; if it is quantized as `quantize_kernel` says, without L.
      **options: of `jnp.einsum`.

    Returns:
      [..., out] in the dtype of x.
    """
    if SCALE not in entry:
        return jnp.einsum('...i,oi->...o', x, entry['kernel'].astype(x.dtype), **options)
    return _quantized_product(x, entry['kernel'], entry[SCALE], tuple(options.items()))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _quantized_product(
    x: jax.Array, kernel: jax.Array, scale: jax.Array, options: tuple[tuple[str, Any], ...]
) -> jax.Array:
    """Returns W x; see `product`."""
    if kernel.dtype == jnp.int8:
        y = jnp.einsum(
            '...i,oi->...o', x, kernel.astype(x.dtype), preferred_element_type=jnp.float32,
            **dict(options),
        )  # fmt: skip
        return (y * scale).astype(x.dtype)
    return jnp.einsum('...i,oi->...o', x, _written_out(kernel, scale, x.dtype), **dict(options))


def _product_forward(
    x: jax.Array, kernel: jax.Array, scale: jax.Array, options: tuple[tuple[str, Any], ...]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Keeps the few bits."""
    return _quantized_product(x, kernel, scale, options), (kernel, scale)


def _product_backward(
    options: tuple[tuple[str, Any], ...], kept: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, None, None]:
    """Returns the cotangent of x; the weights are frozen."""
    kernel, scale = kept
    if kernel.dtype == jnp.int8:
        weights, dy = kernel.astype(dy.dtype), (dy * scale).astype(dy.dtype)
    else:
        weights = _written_out(kernel, scale, dy.dtype)
    return jnp.einsum('...o,oi->...i', dy, weights, **dict(options)), None, None


_quantized_product.defvjp(_product_forward, _product_backward)


def _written_out(kernel: jax.Array, scale: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Returns [..., out, in] of int4 values uint8[..., out / 2, in] and scales."""
    *lead, half, fan_in = kernel.shape
    values = jnp.stack([kernel & 15, kernel >> 4], axis=-2).astype(jnp.int8) - 8  # out/2 2 in
    groups = values.reshape(*lead, 2 * half, scale.shape[-1], -1)
    return (groups.astype(dtype) * scale[..., None].astype(dtype)).reshape(*lead, 2 * half, fan_in)


def dense(kernel: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Returns the kernel [L, out, in] that a quantized one stands for, itself if it is none."""
    if scale is None:
        return kernel
    if kernel.dtype == np.int8:
        return kernel.astype(np.float32) * scale[..., None]
    return np.asarray(_written_out(jnp.asarray(kernel), jnp.asarray(scale), jnp.float32))


def placed(mesh: Mesh | AbstractMesh, spec: Iterable[Any], shape: tuple[int, ...]) -> NamedSharding:
    """Returns where values or scales [L, ...] lie beside a kernel's partition.

    They are whole along axes that the mesh does not divide.
    """
    entries = []
    for size, entry in zip(shape, (*spec, None, None, None), strict=False):
        names = entry if isinstance(entry, tuple) else (entry,) if entry else ()
        divides = size % math.prod(mesh.shape[name] for name in names) == 0
        entries.append(entry if divides else None)
    return NamedSharding(mesh, PartitionSpec(*entries))


@functools.cache
def _round(
    kind: str, where: jax.sharding.Sharding, of_scale: jax.sharding.Sharding
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """Returns the compiled function from a kernel to its values and scales."""

    def int8(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = kernel.astype(jnp.float32)
        largest = jnp.abs(wide).max(axis=-1)
        scale = jnp.where(largest > 0, largest / _MOST[INT8], 1.0)
        return jnp.round(wide / scale[..., None]).astype(jnp.int8), scale

    def int4(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        fan_out, fan_in = kernel.shape
        wide = kernel.astype(jnp.float32).reshape(fan_out, -1, group_size(fan_in))
        place = jnp.abs(wide).argmax(axis=-1, keepdims=True)
        largest = jnp.take_along_axis(wide, place, axis=-1)[..., 0]
        scale = jnp.where(largest != 0, largest / _MOST[INT4], 1.0).astype(jnp.bfloat16)
        steps = jnp.round(wide / scale[..., None].astype(jnp.float32))
        values = (jnp.clip(steps, -8, 7) + 8).astype(jnp.uint8).reshape(-1, 2, fan_in)
        return values[:, 0] | (values[:, 1] << 4), scale

    # Layer by layer, so that one layer at a time is there in float32.
    one = {INT8: int8, INT4: int4}[kind]
    return jax.jit(lambda kernel: jax.lax.map(one, kernel), out_shardings=(where, of_scale))
