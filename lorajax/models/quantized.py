"""Frozen weights in int8: half the bytes of bfloat16, a quarter of float32.

Every output channel of a projection has a scale of its own, and the product is taken before it is
scaled: y = s * (Q x), with W ~ s Q. So no kernel is ever written out in full. Adapters are trained
beside such a base as beside any other; embeddings, biases and norms stay as they are.

Source: Dettmers et al. 2022 (LLM.int8), section 2.1 (vector-wise quantization of weights); Dettmers
et al. 2023 (QLoRA) for adapters beside a quantized base.
"""

import functools
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from lorajax.types import Params

NONE, INT8 = 'none', 'int8'
KINDS = (NONE, INT8)
SCALE = 'kernel_scale'  # beside a kernel of int8
_MOST = 127


def quantize(params: Params) -> Params:
    """Returns base weights with the kernels of all projections in int8.

    Args:
      params: as `load_params` gives them; the kernels are donated, so that no second set of them
        is needed. Each is replaced where it lies.
    """
    layers = {
        name: {**entry, **_quantized(entry['kernel'])} if 'kernel' in entry else entry
        for name, entry in params['layers'].items()
    }
    return {**params, 'layers': layers}


def product(x: jax.Array, entry: Mapping[str, Any], **options: Any) -> jax.Array:
    """Returns W x of a projection, whose kernel may be of int8.

    Args:
      x: [..., in].
      entry: 'kernel' [out, in], with `SCALE` float32[out] if it is quantized.
      **options: of `jnp.einsum`.

    Returns:
      [..., out] in the dtype of x.
    """
    kernel = entry['kernel'].astype(x.dtype)
    if SCALE not in entry:
        return jnp.einsum('...i,oi->...o', x, kernel, **options)
    y = jnp.einsum('...i,oi->...o', x, kernel, preferred_element_type=jnp.float32, **options)
    return (y * entry[SCALE]).astype(x.dtype)


def dense(kernel: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Returns the kernel [L, out, in] that a quantized one stands for, itself if it is none."""
    return kernel if scale is None else kernel.astype(np.float32) * scale[..., None]


def _quantized(kernel: jax.Array) -> dict[str, jax.Array]:
    """Returns a stacked kernel [L, out, in] in int8, and its scales float32[L, out]."""
    chex.assert_rank(kernel, 3)
    where: Any = kernel.sharding
    if isinstance(where, NamedSharding):
        axes = (*where.spec, None, None, None)[:2]
        of_scale: Any = NamedSharding(where.mesh, PartitionSpec(*axes))
    else:
        of_scale = where
    values, scale = _round(where, of_scale)(kernel)
    kernel.delete()
    return {'kernel': values, SCALE: scale}


@functools.cache
def _round(where: jax.sharding.Sharding, of_scale: jax.sharding.Sharding) -> Any:
    """Returns the compiled function from a kernel to its int8 values and scales."""

    def one(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = kernel.astype(jnp.float32)
        largest = jnp.abs(wide).max(axis=-1)
        scale = jnp.where(largest > 0, largest / _MOST, 1.0)
        return jnp.round(wide / scale[..., None]).astype(jnp.int8), scale

    # Layer by layer, so that one layer at a time is there in float32.
    return jax.jit(lambda kernel: jax.lax.map(one, kernel), out_shardings=(where, of_scale))


def bytes_of(shape: tuple[int, ...]) -> int:
    """Returns the bytes of a kernel of this shape, [..., out, in], and of its scales."""
    return int(np.prod(shape)) + 4 * int(np.prod(shape[:-1]))
