"""One new token for every row, layer by layer, each layer's weights in arrays of their own.

A scan over stacked layers copies the layer that it is at out of the stack, on the CPU as a real
copy: in a decode step of few rows that is most of what moves through memory. Here the layers are
written out, so nothing is copied. The price is compilation time that grows with depth, so the
scan stays where a copy costs little: small models, and accelerators, whose compiler reads the
slice in place.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.models import rope
from lorajax.models.cache import Cache
from lorajax.models.layers import Block, rms_norm
from lorajax.models.transformer import Transformer
from lorajax.types import Adapter, Params

_MIN_LAYER_BYTES = 1 << 20  # below, a copy takes less than some 0.1 ms


def is_split(params: Params) -> bool:
    """Returns whether `params` come from `split_layers`."""
    return isinstance(params['layers'], tuple)


def pays(params: Params) -> bool:
    """Returns whether decoding is faster with the layers apart: on one CPU, with large layers."""
    leaves = jax.tree.leaves(params['layers'])
    devices = {device for leaf in leaves for device in leaf.devices()}
    layer = sum(leaf.nbytes // leaf.shape[0] for leaf in leaves)
    return layer >= _MIN_LAYER_BYTES and len(devices) == 1 and devices.pop().platform == 'cpu'


def split_layers(params: Params) -> Params:
    """Returns the params with 'layers' as a tuple of L trees, on the CPU without a copy.

    The arrays share memory with `params` where a layer begins at a multiple of 64 bytes; none of
    them may be donated.
    """
    host = jax.tree.map(np.asarray, params['layers'])
    (depth,) = {leaf.shape[0] for leaf in jax.tree.leaves(host)}
    layers = tuple(
        jax.tree.map(lambda leaf, index=index: jax.device_put(leaf[index], may_alias=True), host)
        for index in range(depth)
    )
    return {**params, 'layers': layers}


def split_adapter(adapter: Adapter | None, depth: int) -> tuple[Any, ...]:
    """Returns the projections of an adapter, or of stacked ones, for each of `depth` layers."""
    entries = (adapter or {}).get('layers', {})
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[..., i, :, :], entries) for i in range(depth))


def one_token(
    module: Transformer,
    params: Params,
    adapter: tuple[Any, ...],
    tokens: jax.Array,
    positions: jax.Array,
    cache: Cache,
) -> tuple[jax.Array, tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]]:
    """Runs the decoder on one token per row.

    Args:
      module: the decoder.
      params: base weights, layers apart.
      adapter: from `split_adapter`, of one adapter.
      tokens: int32[B].
      positions: int32[B].
      cache: layers apart, of one adapter.

    Returns:
      [B, D] after the final norm; the tokens' keys and values, L times [B, K, 1, H].
    """
    config = module.config
    block = Block(config, module.param_dtype, return_kv=True)
    x = params['embed']['embedding'][tokens[:, None]].astype(module.dtype)  # B 1 D
    angle = rope.angles(config, positions[:, None])
    itself = jnp.ones((tokens.shape[0], 1, 1), bool)
    keys, values = [], []
    for weights, entries, k, v in zip(params['layers'], adapter, cache.k, cache.v, strict=True):
        variables = {'params': weights, 'lora': entries} if entries else {'params': weights}
        cached = jnp.swapaxes(k, -3, -2), jnp.swapaxes(v, -3, -2)  # views: B S K H
        result: Any = block.apply(variables, x, cached, angle, itself, cache.valid[:, None, :])
        x, (key, value) = result
        keys.append(jnp.swapaxes(key, -3, -2))
        values.append(jnp.swapaxes(value, -3, -2))
    hidden = rms_norm(x[:, 0], params['final_norm']['scale'], config.norm_eps)
    return hidden, (tuple(keys), tuple(values))
