"""What a run needs, and what the machine has: arithmetic on shapes, nothing is loaded."""

import os

import jax
import numpy as np

from lorajax import sharding, toy
from lorajax.experiment.config import Experiment
from lorajax.experiment.provenance import versions
from lorajax.models import ModelConfig
from lorajax.models import config as config_lib
from lorajax.models.hf import checkpoint
from lorajax.tasks.batching import bucket

_GIB = 1024**3


def training_bytes(experiment: Experiment, config: ModelConfig) -> dict[str, int]:
    """Estimates the bytes per device of one training step.

    Args:
      experiment: gives dtypes, batch, rank, remat and mesh.
      config: of the base model.

    Returns:
      'params' (sharded over fsdp and tensor), 'adapters' (factors, gradients and two moments,
      float32), 'activations' (what the backward pass keeps at --max_len; with remat 'none'
      counted as all matmul and elementwise outputs of a layer, with 'dots' the matmul
      outputs, with 'full' the residual stream and one layer), 'logits' (float32 at answer
      positions, taken as half of --max_len, with their gradient).
    """
    mesh = dict(sharding.make_mesh(experiment.mesh).shape)
    item = np.dtype(experiment.dtype).itemsize
    stored = np.dtype(experiment.param_dtype).itemsize
    adapters = experiment.adapters_per_step or len(experiment.tasks)
    factors = sum(
        (fan_in + fan_out) * experiment.lora_rank * config.num_layers
        for name, (fan_in, fan_out) in config.projections.items()
        if name in experiment.lora_targets
    )
    rows = adapters * experiment.batch_size // (mesh['data'] * mesh['fsdp'])
    tokens = rows * bucket(experiment.max_len)
    outputs = sum(fan_out for _, fan_out in config.projections.values())
    scores = config.num_heads * bucket(experiment.max_len)
    per_layer = {
        'none': 2 * outputs + 4 * config.embed_dim + 3 * scores,
        'dots': outputs + config.embed_dim,
        'full': config.embed_dim,
    }[experiment.remat]
    working = 2 * outputs + 3 * scores
    return {
        'params': config.num_params * stored // (mesh['fsdp'] * mesh['tensor']),
        'adapters': adapters * factors * 4 * 4,
        'activations': tokens * item * (per_layer * config.num_layers + working),
        'logits': tokens // 2 * config.vocab_size * 4 * 2 // mesh['tensor'],
    }


def decoding_bytes(experiment: Experiment, config: ModelConfig) -> int:
    """Returns the bytes per device of the key/value cache of one evaluation batch."""
    mesh = dict(sharding.make_mesh(experiment.mesh).shape)
    variants = experiment.adapters_per_step or len(experiment.methods) + 2
    rows = variants * experiment.eval_batch_size // (mesh['data'] * mesh['fsdp'])
    slots = bucket(experiment.max_len) + (experiment.max_new_tokens or experiment.max_len)
    row = 2 * config.num_layers * config.num_kv_heads * config.head_dim * slots
    return rows * row * np.dtype(experiment.dtype).itemsize // mesh['tensor']


def device_bytes() -> int | None:
    """Returns the memory of one device, the host's for CPUs, None where it is not known."""
    device = jax.local_devices()[0]
    if device.platform == 'cpu':
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return (device.memory_stats() or {}).get('bytes_limit')


def describe(experiment: Experiment, model: str | None = None) -> list[str]:
    """Returns lines that say what the machine has and whether the experiment fits.

    Args:
      experiment: gives source and target model and all sizes.
      model: directory, hub id or toy model to look at instead of the two.

    Raises:
      InputError: if a model is not to be had or the mesh does not fit.
    """
    available = device_bytes()
    device = jax.devices()[0]
    shown = 'unknown' if available is None else f'{available / _GIB:.1f} GiB'
    lines = [
        f'{jax.device_count()} device(s) of kind {device.device_kind}, memory of each: {shown}',
        ', '.join(f'{name} {version}' for name, version in versions().items()),
        f'mesh (data, fsdp, tensor): {tuple(sharding.make_mesh(experiment.mesh).shape.values())}',
    ]
    both = (('source', experiment.source_model), ('target', experiment.target_model))
    for side, name in [('model', model)] if model else both:
        config = config_lib.read(checkpoint.resolve(str(toy.MODELS.get(name, name))))
        parts = training_bytes(experiment, config)
        total = sum(parts.values())
        cache = decoding_bytes(experiment, config)
        lines.append(
            f'{side} {name}: {config.num_params / 1e6:,.1f} million parameters; estimated bytes '
            'per device, training: '
            + ' + '.join(f'{size / _GIB:.2f} {part}' for part, size in parts.items())
            + f' = {total / _GIB:.2f} GiB; evaluation cache {cache / _GIB:.2f} GiB'
        )
        peak = max(total, parts['params'] + cache)
        if available is not None:
            lines.append(
                f'{side}: fits'
                if peak < 0.9 * available
                else f'{side}: does not fit; lower --adapters_per_step or --batch_size, take '
                '--remat=full, or shard over more devices'
            )
    return lines
