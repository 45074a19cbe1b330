"""One new token for every row, layer by layer, each layer's weights in arrays of their own.

A scan over stacked layers copies the layer that it is at out of the stack, on CPUs and on GPUs: in
a decode step of few rows that is most of what moves through memory. Compiled for an H100, a step of
Qwen2.5-3B with 128 rows moves 36 GB with the scan and 17 GB without: 6 GB of weights, 4.5 GB of
cache, activations. Here the layers are written out, so nothing is copied. The price is compilation
time that grows with depth, and on GPUs a second copy of the layers. The compiler of TPUs reads the
slice in place, so there the scan stays, and for small models.
"""

import functools
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.models import quantized, rope
from lorajax.models.attention import soft_cap
from lorajax.models.cache import Cache
from lorajax.models.config import ModelConfig
from lorajax.models.layers import gated, matmul_precision, rms_norm
from lorajax.models.transformer import Transformer, embed
from lorajax.types import Adapter, Params

_MASKED = -1e30  # as in `attention`
_MIN_LAYER_BYTES = 1 << 20  # below, a copy takes less than some 0.1 ms


def is_split(params: Params) -> bool:
    """Returns whether `params` come from `split_layers`."""
    return isinstance(params['layers'], tuple)


def is_on_one_cpu(params: Params) -> bool:
    """Returns whether the weights lie on one device, a CPU."""
    devices = {device for leaf in jax.tree.leaves(params['layers']) for device in leaf.devices()}
    return len(devices) == 1 and devices.pop().platform == 'cpu'


def pays(params: Params) -> bool:
    """Returns whether decoding is faster with the layers apart, and there is room for them."""
    leaves = jax.tree.leaves(params['layers'])
    size = sum(leaf.nbytes for leaf in leaves)
    devices = leaves[0].sharding.device_set
    is_whole = all(leaf.sharding.is_fully_replicated for leaf in leaves)
    own = leaves[0].addressable_shards[0].device  # that of another process says nothing here
    limit = (own.memory_stats() or {}).get('bytes_limit')
    return pays_on(devices, size, leaves[0].shape[0], is_whole, limit)


def pays_on(
    devices: Collection[jax.Device], size: int, depth: int, is_whole: bool, limit: int | None
) -> bool:
    """Returns whether layers should be apart, by what can be known without weights.

    Args:
      devices: on which they lie.
      size: bytes of all layers.
      depth: how many layers.
      is_whole: whether every device has all of them; their parts stay stacked.
      limit: bytes of one device's memory. On a GPU the layers lie there twice, which may take half.
    """
    platforms = {device.platform for device in devices}
    if size // depth < _MIN_LAYER_BYTES or not is_whole:
        return False
    if platforms == {'gpu'}:
        return limit is not None and 2 * size <= limit // 2
    return platforms == {'cpu'} and len(devices) == 1


def split_layers(params: Params) -> Params:
    """Returns the params with 'layers' as a tuple of L trees, on one CPU without a copy.

    There the arrays share memory with `params` where a layer begins at a multiple of 64 bytes; none
    of them may be donated.
    """
    (depth,) = {leaf.shape[0] for leaf in jax.tree.leaves(params['layers'])}
    if not is_on_one_cpu(params):
        layers = tuple(
            jax.tree.map(lambda leaf, index=index: leaf[index], params['layers'])
            for index in range(depth)
        )
        return {**params, 'layers': layers}
    host = jax.tree.map(np.asarray, params['layers'])
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
    slot: jax.Array,
) -> tuple[jax.Array, Cache]:
    """Runs the decoder on one token per row.

    Each layer writes the new keys and values before it attends, so that the only reader of the old
    cache is the write: read on its own, the whole cache would be copied in every step.

    Args:
      module: the decoder.
      params: base weights, layers apart.
      adapter: from `split_adapter`, of one adapter.
      tokens: int32[B].
      positions: int32[B].
      cache: layers apart, of one adapter.
      slot: int32[], where to write the tokens' keys and values.

    Returns:
      [B, D] after the final norm; the cache with the new tokens.
    """
    config = module.config
    x = embed(config, params['embed']['embedding'], tokens, module.dtype)  # B D
    valid = cache.valid.at[:, slot].set(True)
    views = [_view(config, positions, valid, slot, is_local) for is_local in (False, True)]
    keys, values = [], []
    layers = zip(params['layers'], adapter, cache.k, cache.v, strict=True)
    for index, (weights, entries, k, v) in enumerate(layers):
        angle, seen = views[config.has_window(index)]
        x, k, v = _layer(config, weights, entries, x, angle, (k, v, seen), slot)
        keys.append(k)
        values.append(v)
    hidden = _norm(config, params['final_norm'], x)
    return hidden, Cache(tuple(keys), tuple(values), valid)


def _view(
    config: ModelConfig, positions: jax.Array, valid: jax.Array, slot: jax.Array, is_local: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns angles [B, 1, H / 2] and bool[B, S] visible slots, with a window if `is_local`."""
    if is_local and config.sliding_window:
        slots = valid.shape[-1]
        age = (slot - jnp.arange(slots)) % slots
        valid &= age < config.sliding_window
    return rope.angles(config, positions[:, None], is_local), valid


def _layer(
    config: ModelConfig,
    weights: Params,
    entries: Any,
    x: jax.Array,
    angle: jax.Array,
    cached: tuple[jax.Array, jax.Array, jax.Array],
    slot: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `layers.Block` computes, for x [B, D]; returns x and the new cache [B, K, S, H]."""
    project = functools.partial(_project, weights, entries)
    norm = functools.partial(_norm, config)
    h = norm(weights['input_norm'], x)
    q, k, v = (project(f'{name}_proj', h).reshape(len(x), 1, -1, config.head_dim) for name in 'qkv')
    if config.qk_norm:
        q, k = norm(weights['q_norm'], q), norm(weights['k_norm'], k)
    q, k = rope.rotate(q, angle), rope.rotate(k, angle)
    keys, values, valid = cached
    keys, values = (
        jax.lax.dynamic_update_slice_in_dim(old, new.swapaxes(1, 2).astype(old.dtype), slot, axis=2)
        for old, new in ((keys, k), (values, v))
    )
    queries = q.reshape(len(x), config.num_kv_heads, -1, config.head_dim)  # B K G H
    out = _attend(config, queries, keys, values, valid).reshape(len(x), -1)
    out = project('o_proj', out)
    x += norm(weights['attention_output_norm'], out) if config.output_norms else out
    h = norm(weights['post_attention_norm'], x)
    inner = gated(project('gate_proj', h), project('up_proj', h), config.mlp_activation)
    out = project('down_proj', inner)
    x += norm(weights['mlp_output_norm'], out) if config.output_norms else out
    return x, keys, values


def _norm(config: ModelConfig, weights: Params, x: jax.Array) -> jax.Array:
    """What `layers.RMSNorm` computes."""
    return rms_norm(x, weights['scale'], config.norm_eps, config.norm_offset)


def _project(weights: Params, entries: Any, name: str, x: jax.Array) -> jax.Array:
    """What `layers.Projection` computes, for x [B, in]."""
    precision = matmul_precision(x.dtype)
    y = quantized.product(x, weights[name], precision=precision)
    if 'bias' in weights[name]:
        y += weights[name]['bias'].astype(x.dtype)
    if name in entries:
        a, b = entries[name]['a'].astype(x.dtype), entries[name]['b'].astype(x.dtype)
        y += jnp.matmul(jnp.matmul(x, a, precision=precision), b, precision=precision)
    return y


def _attend(
    config: ModelConfig, q: jax.Array, k: jax.Array, v: jax.Array, valid: jax.Array
) -> jax.Array:
    """Lets q [B, K, G, H] look at k and v [B, K, S, H] where bool[B, S] says so.

    The operands lie as a batched product takes them; XLA's CPU backend turns others over, and
    was twenty times slower with the slots before the heads (25 ms, 1.2 ms for 256 rows).
    """
    options: Any = {
        'precision': matmul_precision(q.dtype), 'preferred_element_type': jnp.float32
    }  # fmt: skip
    batch = ((0, 1), (0, 1))
    scores = jax.lax.dot_general(q, k, (((3,), (3,)), batch), **options) * config.score_scale
    scores = soft_cap(scores, config.attention_softcap)
    scores = jnp.where(valid[:, None, None, :], scores, _MASKED)
    probs = jax.nn.softmax(scores, axis=-1).astype(q.dtype)  # B K G S
    return jax.lax.dot_general(probs, v, (((3,), (2,)), batch), **options).astype(q.dtype)
