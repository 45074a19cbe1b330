"""An adapter in PEFT format -> config and tree; all that does not fit is one line."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.lora.config import TARGETS, Factor, LoraConfig, Module, PeftFile, module_name
from lorajax.lora.peft import names, scale, schema
from lorajax.lora.peft.adapter import PeftAdapter
from lorajax.lora.peft.names import CONFIG_FILE, PICKLE_FILE, WEIGHTS_FILE

_MAX_LAYERS = 1024  # far above any decoder; the deepest published ones have 126
_Factors = Mapping[Factor, np.ndarray]


def load_peft(
    directory: io.PathLike,
    num_layers: int | None = None,
    projections: Mapping[str, tuple[int, int]] | None = None,
) -> PeftAdapter:
    """Reads an adapter in PEFT format.

    Args:
      directory: holds adapter_config.json and adapter_model.safetensors; SHA256SUMS is checked
        where it is there.
      num_layers: L of the base model; by default the highest layer in the file plus one.
        Layers without an adapter get zeros, ranks below the highest are filled with zeros.
      projections: input and output width by name, of the base model; not checked by default.

    Returns:
      The config, whose `targets` are those in the file, and the tree: float32 `a` [L, in, R] and
      `b` [L, R, out] by projection. If target_modules adapts only some layers, and every projection
      in the same ones, these are the config's `layers`.

    Raises:
      InputError: naming the file, for anything that cannot be represented exactly (DoRA,
        trained biases, pickles, ...), is missing, damaged, has the wrong shape or is not finite.
    """
    if not os.path.isdir(directory):
        raise InputError(
            f'{io.shorten(os.fspath(directory), 300)}: no such directory, expected an adapter in '
            'PEFT format'
        )
    directory = pathlib.Path(directory)
    io.check_sums(directory)
    config, settings = schema.read(directory / CONFIG_FILE)
    path = directory / WEIGHTS_FILE
    if not path.is_file() and (directory / PICKLE_FILE).is_file():
        raise InputError(
            f'{directory / PICKLE_FILE}: pickle weights are never loaded, expected {WEIGHTS_FILE}, '
            'which save_pretrained of peft writes'
        )
    tensors, prefix = _read_factors(path)
    factors = {factor: tensor.astype(np.float32) for factor, (_, tensor) in tensors.items()}
    file = PeftFile(settings, tensors)
    depth = _check_modules(path, config, settings, file.modules, prefix, num_layers)
    for module in sorted(file.modules):
        _check_shapes(path, config, factors, module, projections)
    folded = {module: _fold(path, config, tensors, module) for module in sorted(file.modules)}
    targets = tuple(name for name in TARGETS if any(name == other for other, _ in file.modules))
    layers = {name: _stack(factors, folded, name, depth) for name in targets}
    adapted = {layer for _, layer in file.modules}
    is_uniform = len(file.modules) == len(targets) * len(adapted)
    if config.layers is None and len(adapted) < depth and is_uniform:
        config = dataclasses.replace(config, layers=tuple(sorted(adapted)))
    return PeftAdapter(dataclasses.replace(config, targets=targets, file=file), {'layers': layers})


def _read_factors(path: pathlib.Path) -> tuple[dict[Factor, tuple[str, np.ndarray]], str]:
    """Returns name and numbers of each factor, all of them finite, and the prefix of modules."""
    tensors: dict[Factor, tuple[str, np.ndarray]] = {}
    prefix = 'model.'
    for name, tensor in tensor_files.read(path).items():
        parsed = names.parse(name)
        if parsed is None:
            raise InputError(f'{path}: {_foreign(name)}')
        prefix, factor = parsed
        if factor in tensors:
            raise InputError(f'{path}: {name} and {tensors[factor][0]} are the same factor')
        if tensor.dtype.kind != 'f' and tensor.dtype.name != 'bfloat16':
            raise InputError(f'{path}: {name} is {tensor.dtype}, expected a float')
        if tensor.ndim != 2:
            raise InputError(f'{path}: {name} has shape {tensor.shape}, expected a matrix')
        if not np.isfinite(tensor.astype(np.float32)).all():
            raise InputError(f'{path}: {name} holds NaN or infinity')
        tensors[factor] = name, tensor
    if not tensors:
        raise InputError(f'{path}: holds no LoRA tensors')
    for projection, layer, kind in tensors:
        other = 'B' if kind == 'A' else 'A'
        if (projection, layer, other) not in tensors:
            lacking = f'{module_name(projection, layer)}.lora_{other}.weight'
            raise InputError(f'{path}: lacks tensor {lacking}')
    return tensors, prefix


def _foreign(name: str) -> str:
    """Returns the complaint about a tensor that is no factor of a projection."""
    name = io.shorten(name, 200)
    if name.endswith('.bias') and '.lora_' not in name:
        return f'{name} is a trained bias, which a tree of factors cannot hold'
    return f'unknown tensor {name}, expected LoRA factors of projections'


def _check_modules(
    path: pathlib.Path,
    config: LoraConfig,
    settings: Mapping[str, Any],
    present: set[Module],
    prefix: str,
    num_layers: int | None,
) -> int:
    """Checks that the file has just the modules that its config adapts; returns the depth."""
    highest = max(layer for _, layer in present) + 1
    depth = num_layers or highest
    if highest > _MAX_LAYERS:  # the tree has all layers below, whatever the file has
        raise InputError(f'{path}: has layer {highest - 1}, expected fewer than {_MAX_LAYERS}')
    if highest > depth:
        raise InputError(f'{path}: has layer {highest - 1}, the model has {depth} layers')
    if config.layers and config.layers[-1] >= depth:
        raise InputError(
            f'{path}: has no layer {config.layers[-1]}, which {CONFIG_FILE} says is adapted'
        )
    if settings.get('target_modules') is None:  # PEFT fills it in from the base model's family
        used = {projection for projection, _ in present}
        layers = config.layers or range(depth)
        expected = {(projection, layer) for projection in used for layer in layers}
    else:
        expected = {
            (projection, layer)
            for layer in range(depth)
            for projection in TARGETS
            if schema.is_targeted(settings, prefix + names.bare_name((projection, layer)))
        }
    extra = sorted(present - expected)
    if extra:
        raise InputError(
            f'{path}: has factors of {module_name(*extra[0])}, which {CONFIG_FILE} does not adapt'
        )
    absent = sorted(expected - present, key=lambda module: (module[1], TARGETS.index(module[0])))
    if absent and absent[0][1] >= highest:
        raise InputError(
            f'{path}: adapts {highest} layers, the model has {depth}; expected an adapter of it'
        )
    if absent:
        raise InputError(f'{path}: lacks tensor {module_name(*absent[0])}.lora_A.weight')
    return depth


def _check_shapes(
    path: pathlib.Path,
    config: LoraConfig,
    factors: _Factors,
    module: Module,
    projections: Mapping[str, tuple[int, int]] | None,
) -> None:
    """Checks both factors of a module against the config, other layers and the base model."""
    name, rank = module_name(*module), config.rank_of(*module)
    a, b = factors[*module, 'A'].shape, factors[*module, 'B'].shape
    if a[0] != rank or b[1] != rank:
        raise InputError(f'{path}: {name} has factors {a} and {b}, {CONFIG_FILE} says rank {rank}')
    widths = a[1], b[0]
    if projections is not None and widths != projections[module[0]]:
        raise InputError(
            f'{path}: {name} has widths (in, out) {widths}, the model has {projections[module[0]]}'
        )
    first = min(layer for projection, layer, _ in factors if projection == module[0])
    expected = factors[module[0], first, 'A'].shape[1], factors[module[0], first, 'B'].shape[0]
    if widths != expected:
        raise InputError(
            f'{path}: {name} has widths (in, out) {widths}, expected {expected} as in layer {first}'
        )


def _fold(
    path: pathlib.Path,
    config: LoraConfig,
    tensors: Mapping[Factor, tuple[str, np.ndarray]],
    module: Module,
) -> np.ndarray:
    """Returns float32[out, R], a module's `lora_B` times its scale."""
    name, b = tensors[*module, 'B']
    factor = config.scale_of(*module)
    folded = scale.fold(b, factor)
    if not np.isfinite(folded).all():
        raise InputError(f'{path}: {name} times its scale {factor:g} exceeds float32')
    return folded


def _stack(
    factors: _Factors, folded: Mapping[Module, np.ndarray], projection: str, depth: int
) -> dict[str, np.ndarray]:
    """Stacks one projection's factors over layers."""
    present = [layer for name, layer in folded if name == projection]
    fan_out = folded[projection, present[0]].shape[0]
    fan_in = factors[projection, present[0], 'A'].shape[1]
    rank = max(folded[projection, layer].shape[1] for layer in present)
    stacked_a = np.zeros((depth, fan_in, rank), np.float32)
    stacked_b = np.zeros((depth, rank, fan_out), np.float32)
    for layer in present:
        a, b = factors[projection, layer, 'A'], folded[projection, layer]
        stacked_a[layer, :, : a.shape[0]] = a.T
        stacked_b[layer, : b.shape[1]] = b.T
    return {'a': stacked_a, 'b': stacked_b}
