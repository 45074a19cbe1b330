"""What a training and an evaluation need, and what the machine has: arithmetic on shapes."""

import os
from collections.abc import Mapping

import jax
import numpy as np

from lorajax.experiment.provenance import versions
from lorajax.models import ModelConfig
from lorajax.sharding import make_mesh, pad_rows
from lorajax.tasks.batching import bucket

_GIB = 1024**3


def training_bytes(
    config: ModelConfig,
    *,
    mesh: tuple[int, int, int],
    adapters: int,
    rank: int,
    targets: tuple[str, ...],
    batch_size: int,
    max_len: int,
    param_dtype: str,
    dtype: str,
    remat: str,
) -> dict[str, int]:
    """Estimates the bytes per device of one training step.

    Args:
      config: of the base model.
      mesh: devices on the data, fsdp and tensor axes.
      adapters: trained together.
      rank: of the adapters.
      targets: adapted projections.
      batch_size: examples per step and adapter.
      max_len: tokens of an example.
      param_dtype, dtype: of the weights and of the computation.
      remat: what the backward pass computes again.

    Returns:
      'params' (sharded over fsdp and tensor), 'adapters' (factors, gradients and two moments,
      float32), 'activations' (what the backward pass keeps at `max_len`; with remat 'none'
      counted as all matmul and elementwise outputs of a layer, with 'dots' the matmul
      outputs, with 'full' the residual stream and one layer), 'logits' (float32 at answer
      positions, taken as half of `max_len`, with their gradient).
    """
    devices = make_mesh(mesh)
    parts = dict(devices.shape)
    factors = sum(
        (fan_in + fan_out) * rank * config.num_layers
        for name, (fan_in, fan_out) in config.projections.items()
        if name in targets
    )
    rows = adapters * pad_rows(devices, batch_size) // (parts['data'] * parts['fsdp'])
    tokens = rows * bucket(max_len)
    outputs = sum(fan_out for _, fan_out in config.projections.values())
    scores = config.num_heads * bucket(max_len)
    per_layer = {
        'none': 2 * outputs + 4 * config.embed_dim + 3 * scores,
        'dots': outputs + config.embed_dim,
        'full': config.embed_dim,
    }[remat]
    working = 2 * outputs + 3 * scores
    stored, item = np.dtype(param_dtype).itemsize, np.dtype(dtype).itemsize
    return {
        'params': config.num_params * stored // (parts['fsdp'] * parts['tensor']),
        'adapters': adapters * factors * 4 * 4,
        'activations': tokens * item * (per_layer * config.num_layers + working),
        'logits': tokens // 2 * config.vocab_size * 4 * 2 // parts['tensor'],
    }


def decoding_bytes(
    config: ModelConfig,
    *,
    mesh: tuple[int, int, int],
    adapters: int,
    batch_size: int,
    max_len: int,
    max_new_tokens: int,
    dtype: str,
) -> int:
    """Returns the bytes per device of the key/value cache of one evaluation batch.

    Args:
      config: of the base model.
      mesh: devices on the data, fsdp and tensor axes.
      adapters: decoded together, the base among them.
      batch_size: prompts of each.
      max_len: tokens of a prompt.
      max_new_tokens: tokens that are decoded.
      dtype: of the computation.
    """
    devices = make_mesh(mesh)
    parts = dict(devices.shape)
    rows = adapters * pad_rows(devices, batch_size) // (parts['data'] * parts['fsdp'])
    slots = bucket(max_len) + max_new_tokens
    row = 2 * config.num_layers * config.num_kv_heads * config.head_dim * slots
    return rows * row * np.dtype(dtype).itemsize // parts['tensor']


def device_bytes() -> int | None:
    """Returns the memory of one device, the host's for CPUs, None where it is not known."""
    device = jax.local_devices()[0]
    if device.platform == 'cpu':
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return (device.memory_stats() or {}).get('bytes_limit')


def describe_machine(mesh: tuple[int, int, int]) -> list[str]:
    """Returns lines on devices, versions and mesh.

    Raises:
      ArgumentError: if the mesh is not the machine's.
    """
    available = device_bytes()
    size = 'unknown' if available is None else f'{available / _GIB:.1f} GiB'
    kind = jax.devices()[0].device_kind
    return [
        f'{jax.device_count()} device(s) of kind {kind}, memory of each: {size}',
        ', '.join(f'{name} {version}' for name, version in versions().items()),
        f'mesh (data, fsdp, tensor): {tuple(make_mesh(mesh).shape.values())}',
    ]


def describe_model(
    label: str, config: ModelConfig, training: Mapping[str, int], cache: int
) -> list[str]:
    """Returns lines that say what a model needs and whether the machine has it.

    Args:
      label: such as 'source owner/name'.
      config: of the model.
      training: from `training_bytes`.
      cache: from `decoding_bytes`.
    """
    total, available = sum(training.values()), device_bytes()
    parts = ' + '.join(f'{size / _GIB:.2f} {part}' for part, size in training.items())
    lines = [
        f'{label}: {config.num_params / 1e6:,.1f} million parameters; estimated bytes per device, '
        f'training: {parts} = {total / _GIB:.2f} GiB; evaluation cache {cache / _GIB:.2f} GiB'
    ]
    if available is not None:
        # A tenth is left to the compiler's own buffers.
        fits = max(total, training['params'] + cache) < 0.9 * available
        lines.append(
            f'{label}: fits'
            if fits
            else f'{label}: does not fit; lower --adapters_per_step or --batch_size, take '
            '--remat=full, or shard over more devices'
        )
    return lines
