"""What a training and an evaluation need, and what the machine has: arithmetic on shapes."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AbstractMesh

from lorajax.experiment.config import Experiment
from lorajax.experiment.provenance import versions
from lorajax.models import ModelConfig, kernels, quantized, step
from lorajax.models.hf import names as hf_names
from lorajax.models.placement import adapter_shardings, param_shardings
from lorajax.sharding import mesh_text, pad_adapters, pad_rows, plan_mesh
from lorajax.tasks.batching import bucket

_GIB = 1024**3
_SCORE = 4  # bytes of an attention score and of a logit, float32 in every precision
_LOGITS = 2**24  # that `models.loss` makes at a time
_TOKENS = 32768  # that `training.loop` computes at a time on an accelerator


def training_bytes(
    experiment: Experiment, config: ModelConfig, adapters: int, attention: str = kernels.XLA
) -> dict[str, int]:
    """Estimates the bytes per device of one training step.

    Weights, factors and moments are exact. What the backward pass keeps is counted by the arrays
    that it keeps. What one layer works with is fitted to compiled programs; `benchmarks.memory`
    compares all of it with XLA's own account.

    Args:
      experiment: says mesh, recipe, dtypes and remat; all examples are taken to have `max_len`
        tokens.
      config: of the base model.
      adapters: trained together.
      attention: the kernel, see `models.kernels`; but for XLA's none writes its scores down.

    Returns:
      'params' (sharded as they are loaded); 'adapters' (factors, two moments, gradients and
      factors with their scale, float32); 'activations' (what the backward pass keeps of all
      layers, and what it needs for one); 'logits' (those that exist at a time, and the gradient
      that is kept of each, answers taken as half of the tokens).
    """
    part = _part(experiment, config, adapters)
    tokens = min(
        -(-part.adapters * experiment.batch_size // part.rows) * experiment.max_len, _TOKENS
    )
    width, hidden, item = config.embed_dim, part.hidden, part.item
    queries, keys = part.heads * config.head_dim, part.kv_heads * config.head_dim
    # A token looks back at the longest example and a block.
    window = experiment.max_len * 5 // 4 if attention == kernels.XLA else 0
    # The update of a single adapter is a product like those of the base, so it is kept, too.
    products = (2 * hidden + queries + 2 * keys + width) * (2 if part.adapters == 1 else 1)
    # Of the MLP half precision, fitted to programs for GPUs, keeps less than float32 on CPUs.
    inner = 6 if item == _SCORE else 3 if config.mlp_activation == 'silu' else 5
    outer = 7 if config.output_norms else 5
    kept = {
        'none': (inner * hidden + outer * width + queries + 10 * keys) * item
        + part.heads * window * (_SCORE + item),
        'dots': (products + width) * item,
        'full': width * item,
    }[experiment.remat]
    working = (8 * hidden + 13 * width) * item + 3 * part.heads * window * _SCORE
    kernel = width * config.mlp_dim * item
    gathered = kernel + config.vocab_size * width * item if part.mesh.shape['fsdp'] > 1 else 0
    logits = min(_LOGITS, tokens // 2 * config.vocab_size) // part.mesh.shape['tensor']
    return {
        'params': _params(part.mesh, config, experiment),
        'adapters': 5 * _adapters(part.mesh, config, experiment, adapters),
        'activations': tokens * (kept * config.num_layers + working) + 2 * kernel + gathered,
        'logits': 2 * logits * _SCORE + tokens // 2 * width * item,
    }


def decoding_bytes(experiment: Experiment, config: ModelConfig, adapters: int) -> dict[str, int]:
    """Estimates the bytes per device of one evaluation batch, while its prompts are read.

    Args:
      experiment: says mesh, adapters, dtypes and lengths; all prompts are taken to have `max_len`
        tokens.
      config: of the base model.
      adapters: decoded together, the base among them.

    Returns:
      'params'; 'adapters' (as they are given, and again with the layers first); 'cache' (keys and
      values, exact; layers with a window have as many slots as the others, as all share one ring);
      'prompts' (their own keys and values, and what one layer works with).
    """
    part = _part(experiment, config, adapters)
    rows = part.adapters * pad_rows(part.mesh, experiment.eval_batch_size) // part.rows
    length, item = bucket(experiment.max_len), part.item
    slots = length + (experiment.max_new_tokens or experiment.max_len)
    pair = 2 * config.num_layers * part.kv_heads * config.head_dim
    width, scores = config.embed_dim * item, part.heads * length * _SCORE
    # Of the two halves of a layer the one that needs more; no backward pass keeps the other. The
    # numbers are fitted to programs for accelerators; on CPUs it is 7 and 3, and 3 and 5.
    working = max(int(5.5 * part.hidden * item) + width, 2 * scores + 4 * width)
    return {
        'params': _params(part.mesh, config, experiment),
        'adapters': 2 * _adapters(part.mesh, config, experiment, adapters),
        'cache': rows * slots * pair * item,
        'prompts': rows * length * (pair * item + working),
    }


def layers_apart(
    experiment: Experiment, config: ModelConfig, devices: Sequence[jax.Device], limit: int | None
) -> int:
    """Returns the bytes of the second copy of the layers that decoding makes on GPUs, if it does.

    Args:
      experiment: says mesh and weights.
      config: of the base model.
      devices: of the kind that the mesh is made of.
      limit: bytes of one of them, if they are known; see `models.step.pays_on`.
    """
    planned = plan_mesh(experiment.mesh, jax.device_count())
    size = _params(planned, config, experiment, 'layers/')
    is_whole = planned.shape['fsdp'] == planned.shape['tensor'] == 1
    pays = step.pays_on(devices, size, config.num_layers, is_whole, limit)
    return size if pays and devices[0].platform == 'gpu' else 0


class _Part(NamedTuple):
    """What one device of a mesh has.

    Attributes:
      mesh: all of the devices.
      adapters: stacked ones that it computes.
      rows: parts that a batch is cut into.
      heads, kv_heads: of attention; all key and value heads, where the tensor axis divides them
        not.
      hidden: numbers between the two products of an MLP.
      item: bytes of a number of the computation.
    """

    mesh: AbstractMesh
    adapters: int
    rows: int
    heads: int
    kv_heads: int
    hidden: int
    item: int


def _part(experiment: Experiment, config: ModelConfig, adapters: int) -> _Part:
    """Returns the part of one device in the work of some stacked adapters."""
    mesh = plan_mesh(experiment.mesh, jax.device_count())
    parts = dict(mesh.shape)
    keys = config.num_kv_heads
    return _Part(
        mesh=mesh,
        adapters=pad_adapters(mesh, adapters) // parts['adapters'],
        rows=parts['data'] * parts['fsdp'],
        heads=config.num_heads // parts['tensor'],
        kv_heads=keys if keys % parts['tensor'] else keys // parts['tensor'],
        hidden=config.mlp_dim // parts['tensor'],
        item=np.dtype(experiment.dtype).itemsize,
    )


def _params(
    mesh: AbstractMesh, config: ModelConfig, experiment: Experiment, prefix: str = ''
) -> int:
    """Returns the bytes of a device's part of the weights whose path begins with a prefix."""
    item, quantize = np.dtype(experiment.param_dtype).itemsize, experiment.quantize
    shapes, where = hf_names.shapes(config), param_shardings(mesh, config)
    parts = {
        path: where[path].shard_shape(shapes[path]) for path in shapes if path.startswith(prefix)
    }
    return sum(
        quantized.bytes_of(part, quantize)
        if quantize != quantized.NONE and quantized.is_quantized(path)
        else math.prod(part) * item
        for path, part in parts.items()
    )


def _adapters(
    mesh: AbstractMesh, config: ModelConfig, experiment: Experiment, adapters: int
) -> int:
    """Returns the bytes of a device's part of the factors of all adapters, in float32."""
    adapters, rank = pad_adapters(mesh, adapters), experiment.lora_rank
    placed = adapter_shardings(mesh, config, experiment.lora_targets, adapters)['layers']
    total = 0
    for name, where in placed.items():
        fan_in, fan_out = config.projections[name]
        for key, shape in (('a', (fan_in, rank)), ('b', (rank, fan_out))):
            whole = (adapters, config.num_layers, *shape)
            total += math.prod(where[key].shard_shape(whole)) * 4
    return total


def device_bytes() -> int | None:
    """Returns the memory of one device, the host's for CPUs, None where it is not known."""
    device = jax.local_devices()[0]
    if device.platform == 'cpu':
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return (device.memory_stats() or {}).get('bytes_limit')


def describe_machine() -> list[str]:
    """Returns lines on devices and versions."""
    available = device_bytes()
    size = 'unknown' if available is None else f'{available / _GIB:.1f} GiB'
    kind = jax.devices()[0].device_kind
    return [
        f'{jax.device_count()} device(s) of kind {kind}, memory of each: {size}',
        ', '.join(f'{name} {version}' for name, version in versions().items()),
    ]


def describe_mesh(mesh: Sequence[int]) -> str:
    """Returns a line on how the devices are arranged, which need not be here.

    Raises:
      ArgumentError: if it is no mesh.
    """
    planned = plan_mesh(mesh, jax.device_count())
    count = num_devices(mesh)
    here = '' if count == jax.device_count() else f'; {count} devices, of which some are elsewhere'
    return f'mesh (data, fsdp, tensor[, adapters]): {mesh_text(planned)}{here}'


def num_devices(mesh: Sequence[int]) -> int:
    """Returns the devices of a mesh, which need not be here."""
    return math.prod(plan_mesh(mesh, jax.device_count()).shape.values())


def fits(sizes: Mapping[str, int], available: int | None) -> bool | None:
    """Returns whether a device of so many bytes holds some parts; None where they are not known.

    A tenth is left to what the estimate does not know.
    """
    return None if available is None else sum(sizes.values()) < 0.9 * available


def describe_model(
    label: str, config: ModelConfig, training: Mapping[str, int], decoding: Mapping[str, int]
) -> list[str]:
    """Returns lines that say what a model needs.

    Args:
      label: such as 'source owner/name'.
      config: of the model.
      training: from `training_bytes`.
      decoding: from `decoding_bytes`.
    """
    lines = [f'{label}: {config.num_params / 1e6:,.1f} million parameters']
    for what, sizes in (('training', training), ('evaluation', decoding)):
        parts = ' + '.join(f'{size / _GIB:.2f} {part}' for part, size in sizes.items())
        total = sum(sizes.values()) / _GIB
        lines.append(f'{label}: estimated per device, {what}: {parts} = {total:.2f} GiB')
    return lines
