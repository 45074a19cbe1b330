"""Attention of training by the platform's own kernel: which one, and how it is called.

Reading prompts and scoring use `attention.attend` everywhere, as their masks have no bound on how
far a token looks back; a decode step has one query a row, see `step`.

- `xla`: blocks of the row and the blocks before them, see `attention.look_back`. Everywhere.
- `cudnn`: the same blocks, handed to cuDNN's flash attention with their mask. NVIDIA from
  capability 8.0 on, half precision.
- `splash`: whole rows, handed to the splash kernel for TPUs, which skips what lies outside a
  band; segment ids say who sees whom. TPUs, heads of a multiple of 128 numbers.

No accelerator was there when this was written. Both kernels compile for theirs (docs/results.md);
the blocks' arithmetic was compared through JAX's XLA implementation of the same call, the splash
kernel in Pallas' interpreter, also divided over four CPUs, which gives the same gradients.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask
from jax.sharding import Mesh

from lorajax import sharding
from lorajax.errors import ArgumentError
from lorajax.models.attention import Blocking, KeyValues, attend, blocked_mask, look_back
from lorajax.models.config import ModelConfig

AUTO, XLA, CUDNN, SPLASH = 'auto', 'xla', 'cudnn', 'splash'
NAMES = (AUTO, XLA, CUDNN, SPLASH)

_LANES = 128  # of a TPU; a tile of the splash kernel is a multiple of it
_TILES = (512, 256, 128)  # tokens, the first that divides the row
_FILLING = -1  # segment id of what fills a row up to whole tiles


def choose(device: jax.Device, config: ModelConfig, dtype: jnp.dtype, wanted: str = AUTO) -> str:
    """Returns the kernel of attention in training on a device.

    Args:
      device: one of the mesh.
      config: of the model.
      dtype: of the computation.
      wanted: one of `NAMES`.

    Raises:
      ArgumentError: if `wanted` cannot be had.
    """
    problems = {
        XLA: '',
        CUDNN: _no_cudnn(device, config, dtype),
        SPLASH: _no_splash(device, config),
    }
    if wanted == AUTO:
        return next(name for name in (CUDNN, SPLASH, XLA) if not problems[name])
    if problems[wanted]:
        raise ArgumentError('attention', wanted, problems[wanted])
    return wanted


def _no_cudnn(device: jax.Device, config: ModelConfig, dtype: jnp.dtype) -> str:
    """Returns why cuDNN cannot be taken; '' if it can.

    Source: the checks of jax._src.cudnn.fused_attention_stablehlo, jax 0.10.2.
    """
    capability = float(getattr(device, 'compute_capability', None) or 0)
    # Clients that only compile do not speak of CUDA, but their devices do of NVIDIA.
    words = f'{device.client.platform_version} {device.device_kind}'.lower()
    if device.platform not in ('gpu', 'cuda') or not ('cuda' in words or 'nvidia' in words):
        return f'needs an NVIDIA GPU, this is a {device.platform}'
    if capability < 8.0:
        return f'needs a GPU of capability 8.0, this one has {capability}'
    if jnp.dtype(dtype).name not in ('bfloat16', 'float16'):
        return f'needs half precision, the dtype is {jnp.dtype(dtype).name}'
    # JAX asks the devices that are here for their capability, also where it compiles for others.
    is_here = 'cuda' in device.client.platform_version.lower()
    widest = 256 if capability >= 9.0 and is_here else 128
    if config.head_dim % 8 or config.head_dim > widest:
        return f'needs heads of at most {widest} and a multiple of 8, these have {config.head_dim}'
    if config.attention_softcap is not None:
        return 'cannot bound scores'
    return ''


def _no_splash(device: jax.Device, config: ModelConfig) -> str:
    """Returns why the splash kernel cannot be taken; '' if it can."""
    if device.platform != 'tpu':
        return f'needs a TPU, this is a {device.platform}'
    if config.head_dim % _LANES:
        return f'needs heads of a multiple of {_LANES}, these have {config.head_dim}'
    if config.window_pattern and len(set(config.window_pattern)) > 1:
        return 'needs one mask for all layers, these have windows in some'
    return ''


def visibility(
    kernel: str, segment_ids: jax.Array, blocking: Blocking, window: int | None
) -> jax.Array:
    """Returns what `attend_packed` is told of who sees whom: a mask, or the segment ids."""
    return segment_ids if kernel == SPLASH else blocked_mask(segment_ids, blocking, window)


def attend_packed(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    seen: jax.Array,
    blocking: Blocking,
    config: ModelConfig,
    kernel: str,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Attends within the sequences of packed rows.

    Args:
      q: [B, T, N, H].
      k: [B, T, K, H].
      v: [B, T, K, H].
      seen: from `visibility`.
      blocking: how the rows are cut; no sequence is longer than its reach.
      config: of the model.
      kernel: from `choose`.
      mesh: where the arrays lie; the splash kernel runs on each device for itself.

    Returns:
      [B, T, N, H] in the dtype of `q`; any finite number where a token belongs to no sequence.
    """
    batch, length, heads, width = q.shape
    if kernel == SPLASH:
        # A layer of this kernel's models has the same window as all others.
        window = config.sliding_window if config.has_window(0) else None
        run = functools.partial(
            _attend_splash, reach=_reach(blocking, window), scale=config.score_scale,
            softcap=config.attention_softcap,
        )  # fmt: skip
        return _on_each_device(run, mesh, q, k, v, seen)
    q = q.reshape(-1, blocking.size, heads, width)
    k, v = look_back(k, blocking), look_back(v, blocking)
    if kernel == CUDNN:
        out = attend_fused(q, k, v, seen, config.score_scale, 'cudnn')
    else:
        grouped = q.reshape(*q.shape[:2], config.num_kv_heads, -1, width)
        out = attend(
            grouped, (KeyValues(k, v, seen),), config.score_scale, config.attention_softcap
        )
    return out.reshape(batch, length, heads, width)


def _reach(blocking: Blocking, window: int | None) -> int:
    """Returns how many tokens before its own a token may look at."""
    reach = max(blocking.lookback, 1) * blocking.size - (blocking.lookback == 0)
    return reach if window is None else min(reach, window - 1)


def attend_fused(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array,
    scale: float,
    implementation: Literal['cudnn', 'xla'],
) -> jax.Array:
    """Calls `jax.nn.dot_product_attention`; lengths are made even, which cuDNN asks for.

    Args:
      q: [B, T, N, H].
      k: [B, S, K, H].
      v: [B, S, K, H].
      mask: bool[B, T, S].
      scale: of the scores.
      implementation: 'cudnn', or 'xla' to compare with.
    """
    length = q.shape[1]

    def even(x: jax.Array, *axes: int) -> jax.Array:
        return jnp.pad(x, [(0, x.shape[a] % 2 if a in axes else 0) for a in range(x.ndim)])

    out = jax.nn.dot_product_attention(
        even(q, 1), even(k, 1), even(v, 1), mask=even(mask, 1, 2)[:, None], scale=scale,
        implementation=implementation,
    )  # fmt: skip
    return out[:, :length]


def _attend_splash(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segment_ids: jax.Array,
    *,
    reach: int,
    scale: float,
    softcap: float | None,
    interpret: bool = False,
) -> jax.Array:
    """Runs the splash kernel on rows [B, T, ...], one key/value head and its queries at a time."""
    length, heads, kv_heads = q.shape[1], q.shape[2], k.shape[2]
    missing = -length % _LANES

    def whole(x: jax.Array, value: int = 0) -> jax.Array:
        padding = [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2)
        return jnp.pad(x, padding, constant_values=value)

    kernel = _splash_kernel(length + missing, heads // kv_heads, reach, softcap, interpret)
    ids = whole(segment_ids, _FILLING)
    grouped = whole(q * jnp.asarray(scale, q.dtype)).reshape(
        q.shape[0], -1, kv_heads, heads // kv_heads, q.shape[-1]
    )
    of_heads = jax.vmap(lambda q, k, v, ids: kernel(q, k, v, ids), in_axes=(0, 0, 0, None))
    of_rows = jax.vmap(lambda q, k, v, ids: of_heads(q, k, v, splash.SegmentIds(ids, ids)))
    out = of_rows(
        grouped.transpose(0, 2, 3, 1, 4), whole(k).swapaxes(1, 2), whole(v).swapaxes(1, 2), ids
    )  # B K G T H
    return out.transpose(0, 3, 1, 2, 4).reshape(*grouped.shape[:2], heads, -1)[:, :length]


def _splash_kernel(
    length: int, group: int, reach: int, softcap: float | None, interpret: bool
) -> Any:
    """Returns the kernel for rows of a length and `group` heads of queries to one of keys."""
    tile = next(size for size in _TILES if length % size == 0)
    band = splash_mask.LocalMask((length, length), (reach, 0), 0)
    sizes = splash.BlockSizes(
        block_q=tile, block_kv=tile, block_q_dkv=tile, block_kv_dkv=tile, block_q_dq=tile,
        block_kv_dq=tile,
    )  # fmt: skip
    return splash.make_splash_mqa_single_device(
        splash_mask.MultiHeadMask([band] * group), block_sizes=sizes,
        attn_logits_soft_cap=softcap, interpret=interpret,
    )  # fmt: skip


def _on_each_device(run: functools.partial, mesh: Mesh | None, *arrays: jax.Array) -> jax.Array:
    """Runs a kernel that XLA cannot divide on each device's rows and heads."""
    if mesh is None or mesh.size == 1:
        return run(*arrays)
    q, k, v, ids = arrays
    divided = k.shape[2] % mesh.shape['tensor'] == 0
    heads = 'heads' if divided else None  # else every device has all heads
    kept = sharding.spec(('batch', None, heads, None))
    rows = sharding.spec(('batch', None))
    return jax.shard_map(
        run, mesh=mesh, in_specs=(kept, kept, kept, rows), out_specs=kept, check_vma=False
    )(q, k, v, ids)
