"""Adapters in PEFT format, read and written; the only file that knows PEFT's conventions.

PEFT stores `lora_A` as [R, in] and `lora_B` as [out, R] per layer, and the scale alpha / rank
in the config. Here they are `a` [L, in, R] and `b` [L, R, out] with the scale folded into `b`,
so a tree alone says what it does to a model. Writing divides by the scale again: for scales
that are powers of two, as in nearly every published recipe, a round trip gives the same bits.
"""

import dataclasses
import pathlib
import re
from typing import Any

import numpy as np

from lorajax import safetensors_io, workdir
from lorajax.errors import InputError
from lorajax.lora.config import TARGETS, LoraConfig, module_name
from lorajax.names import join_revision, split_revision
from lorajax.types import Adapter

CONFIG_FILE = 'adapter_config.json'
WEIGHTS_FILE = 'adapter_model.safetensors'
_KEY = re.compile(
    r'(?:base_model\.model\.)?(?:model\.)?layers\.(\d+)\.(?:self_attn|mlp)\.'
    rf'({"|".join(TARGETS)})\.lora_([AB])(?:\.default)?\.weight'
)
# Options that change what an adapter computes and that the tree cannot express, with the
# values that leave it as it is.
_REFUSED: dict[str, tuple[Any, ...]] = {
    'peft_type': ('LORA',),
    'use_dora': (False, None),
    'bias': ('none', None),
    'lora_bias': (False, None),
    'modules_to_save': (None, []),
    'fan_in_fan_out': (False, None),
    'layer_replication': (None,),
    'trainable_token_indices': (None,),
    'target_parameters': (None, []),
    'alora_invocation_tokens': (None,),
    'use_qalora': (False, None),
    'use_bdlora': (False, None),
}
# Initialisations that also change the base weights.
_BASE_CHANGING_INIT = re.compile(r'(pissa|olora|corda|loftq|lora_ga)', re.IGNORECASE)


def _read_config(path: pathlib.Path) -> LoraConfig:
    """Reads adapter_config.json; refuses by name what cannot be represented."""
    raw = workdir.read_json(path)
    for name, accepted in _REFUSED.items():
        if name in raw and raw[name] not in accepted:
            raise InputError(f'{path}: {name} is {raw[name]!r}, expected {accepted[0]!r}')
    init = raw.get('init_lora_weights')
    if isinstance(init, str) and _BASE_CHANGING_INIT.match(init):
        raise InputError(f'{path}: init_lora_weights is {init!r}, which changes the base weights')
    for name in ('r', 'lora_alpha'):
        if not isinstance(raw.get(name), (int, float)) or raw[name] <= 0:
            raise InputError(f'{path}: {name} is {raw.get(name)!r}, expected a positive number')
    layers = raw.get('layers_to_transform')
    return LoraConfig(
        rank=raw['r'],
        alpha=raw['lora_alpha'],
        use_rslora=bool(raw.get('use_rslora')),
        rank_pattern=raw.get('rank_pattern') or {},
        alpha_pattern=raw.get('alpha_pattern') or {},
        layers=None if layers is None else tuple([layers] if isinstance(layers, int) else layers),
        dropout=raw.get('lora_dropout', 0.0),
        base_model=join_revision(raw.get('base_model_name_or_path'), raw.get('revision')),
    )


def load_peft(
    directory: workdir.PathLike, num_layers: int | None = None
) -> tuple[LoraConfig, Adapter]:
    """Reads an adapter in PEFT format.

    Args:
      directory: holds adapter_config.json and adapter_model.safetensors.
      num_layers: L of the base model; by default the highest layer in the file plus one.
        Layers without an adapter get zeros, ranks below the highest are filled with zeros.

    Returns:
      The config, whose `targets` are those in the file, and the tree in float32.

    Raises:
      InputError: naming the file, for anything that cannot be represented exactly (DoRA,
        trained biases, pickles, ...), is missing, has the wrong shape or is not finite.
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise InputError(f'{directory}: no such directory, expected an adapter in PEFT format')
    config = _read_config(directory / CONFIG_FILE)
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        pickled = directory / 'adapter_model.bin'
        if pickled.is_file():
            raise InputError(f'{pickled}: pickle weights are never loaded, expected {WEIGHTS_FILE}')
        raise InputError(f'{path}: no such file')
    factors: dict[tuple[str, int, str], np.ndarray] = {}
    for name, tensor in safetensors_io.iterate(path):
        match = _KEY.fullmatch(name)
        if not match:
            raise InputError(f'{path}: unknown tensor {name}')
        layer, projection, factor = int(match[1]), match[2], match[3]
        if (projection, layer, factor) in factors:
            raise InputError(f'{path}: {name} occurs twice')
        if tensor.dtype.kind != 'f' and tensor.dtype.name != 'bfloat16':
            raise InputError(f'{path}: {name} is {tensor.dtype}, expected a float')
        if tensor.ndim != 2:
            raise InputError(f'{path}: {name} has shape {tensor.shape}, expected a matrix')
        value = tensor.astype(np.float32)
        if not np.isfinite(value).all():
            raise InputError(f'{path}: {name} holds NaN or infinity')
        factors[projection, layer, factor] = value
    if not factors:
        raise InputError(f'{path}: holds no LoRA tensors')
    highest = max(layer for _, layer, _ in factors) + 1
    depth = num_layers or highest
    if highest > depth:
        raise InputError(f'{path}: has layer {highest - 1}, the model has {depth} layers')
    targets = tuple(name for name in TARGETS if any(key[0] == name for key in factors))
    layers = {name: _stack(path, config, factors, name, depth) for name in targets}
    return dataclasses.replace(config, targets=targets), {'layers': layers}


def _stack(
    path: pathlib.Path,
    config: LoraConfig,
    factors: dict[tuple[str, int, str], np.ndarray],
    projection: str,
    depth: int,
) -> dict[str, np.ndarray]:
    """Stacks one projection's factors over layers, with the scale folded into `b`."""
    present = sorted({layer for name, layer, _ in factors if name == projection})
    widths: set[tuple[int, int]] = set()
    rank = 0
    for layer in present:
        for factor in 'AB':
            if (projection, layer, factor) not in factors:
                missing = f'{module_name(projection, layer)}.lora_{factor}.weight'
                raise InputError(f'{path}: lacks tensor {missing}')
        a, b = factors[projection, layer, 'A'], factors[projection, layer, 'B']
        expected = config.rank_of(projection, layer)
        if a.shape[0] != expected or b.shape[1] != expected:
            raise InputError(
                f'{path}: {module_name(projection, layer)} has factors {a.shape} and {b.shape}, '
                f'{CONFIG_FILE} says rank {expected}'
            )
        widths.add((a.shape[1], b.shape[0]))
        rank = max(rank, expected)
    if len(widths) > 1:
        raise InputError(f'{path}: {projection} has several widths (in, out): {sorted(widths)}')
    if config.layers is None and len(present) < max(present) + 1:
        absent = next(layer for layer in range(depth) if layer not in present)
        raise InputError(f'{path}: lacks tensor {module_name(projection, absent)}.lora_A.weight')
    ((fan_in, fan_out),) = widths
    stacked_a = np.zeros((depth, fan_in, rank), np.float32)
    stacked_b = np.zeros((depth, rank, fan_out), np.float32)
    for layer in present:
        a, b = factors[projection, layer, 'A'], factors[projection, layer, 'B']
        stacked_a[layer, :, : a.shape[0]] = a.T
        scale = np.float32(config.scale_of(projection, layer))
        stacked_b[layer, : b.shape[1]] = b.T * scale
    return {'a': stacked_a, 'b': stacked_b}


def save_peft(
    directory: workdir.PathLike,
    config: LoraConfig,
    adapter: Adapter,
    base_model: str | None = None,
    dtype: Any = np.float32,
) -> None:
    """Writes an adapter in PEFT format; peft and vLLM load the directory.

    Args:
      directory: made as a whole if it is absent or empty; otherwise its two adapter files
        are replaced and others left alone.
      config: its scale is divided out of `b` again.
      adapter: the tree; `config.targets` are written.
      base_model: name or path of the base model; `config.base_model` if None. PEFT has a field
        of its own for the revision of 'owner/name@revision'.
      dtype: of the file.

    Raises:
      InputError: if the adapter is not finite, or lacks a target.
    """
    directory = pathlib.Path(directory)
    tensors = {}
    for projection in config.targets:
        if projection not in adapter['layers']:
            raise InputError(f'{directory}: the adapter has no {projection}')
        entry = adapter['layers'][projection]
        a, b = np.asarray(entry['a'], np.float32), np.asarray(entry['b'], np.float32)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise InputError(f'{directory}: {projection} of the adapter holds NaN or infinity')
        for layer in range(a.shape[0]) if config.layers is None else config.layers:
            rank = config.rank_of(projection, layer)
            scale = np.float32(config.scale_of(projection, layer))
            name = f'base_model.model.{module_name(projection, layer)}'
            tensors[f'{name}.lora_A.weight'] = a[layer, :, :rank].T.astype(dtype)
            tensors[f'{name}.lora_B.weight'] = (b[layer, :rank] / scale).T.astype(dtype)
    name, revision = split_revision(base_model or config.base_model or '')
    content = {
        'peft_type': 'LORA',
        'task_type': 'CAUSAL_LM',
        'base_model_name_or_path': name or None,
        'r': config.rank,
        'lora_alpha': config.alpha,
        'lora_dropout': config.dropout,
        'target_modules': list(config.targets),
        'use_rslora': config.use_rslora,
        'rank_pattern': dict(config.rank_pattern),
        'alpha_pattern': dict(config.alpha_pattern),
        'layers_to_transform': None if config.layers is None else list(config.layers),
        'layers_pattern': None,
        'bias': 'none',
        'use_dora': False,
        'fan_in_fan_out': False,
        'init_lora_weights': True,
        'inference_mode': True,
        'modules_to_save': None,
        'revision': revision,
    }
    if directory.is_dir() and any(directory.iterdir()):
        safetensors_io.write(directory / WEIGHTS_FILE, tensors)
        workdir.write_json(directory / CONFIG_FILE, content)
        return
    with workdir.atomic_directory(directory) as temporary:
        safetensors_io.write(temporary / WEIGHTS_FILE, tensors)
        workdir.write_json(temporary / CONFIG_FILE, content)
