"""Config and tree -> an adapter in PEFT format, which peft and vLLM load."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.io import tensor_files
from lorajax.lora.config import Factor, LoraConfig, Module, module_name
from lorajax.lora.peft import names, scale, schema
from lorajax.lora.peft.names import CONFIG_FILE, WEIGHTS_FILE
from lorajax.types import Adapter

DTYPES = ('float32', 'bfloat16', 'float16')
# Settings that say which modules are adapted, and those that change nothing here.
_SELECTION = ('target_modules', 'layers_to_transform', 'layers_pattern', 'exclude_modules')
_KEPT = ('task_type', 'init_lora_weights', 'inference_mode', 'bias')


def save_peft(
    directory: io.PathLike,
    config: LoraConfig,
    adapter: Adapter,
    base_model: str | None = None,
    dtype: DTypeLike | None = None,
) -> None:
    """Writes an adapter in PEFT format, with the sums of its files in SHA256SUMS.

    Older releases of vLLM ignore rank_pattern and alpha_pattern; 0.33.0 reads them. For those,
    write `pad_rank(adapter, R)` of an adapter that has patterns with
    `LoraConfig(rank=R, alpha=R, targets=config.targets)` instead, R the tree's highest rank: the
    scales are in the tree already.

    Args:
      directory: made as a whole if it is absent or empty; otherwise its adapter files are
        replaced and others left alone.
      config: its scale is divided out of `b` again. A factor that still is what `load_peft` found
        in a file is written as that file has it: name, dtype, bits.
      adapter: float32 `a` [L, in, R] and `b` [L, R, out] by projection; `config.targets` are
        written.
      base_model: name or path of the base model; `config.base_model` if None. PEFT has a field
        of its own for the revision of 'owner/name@revision'.
      dtype: of the file: 'float32', 'bfloat16' or 'float16'. None takes that of the file that
        was read for the factors that still are what it says, and float32 for all others.

    Raises:
      InputError: if the adapter is not finite, lacks a target, has a rank or layers that the
        config does not, or exceeds what `dtype` can hold, and if the disk is full. Nothing is
        written then.
      ArgumentError: for another dtype.
    """
    directory = pathlib.Path(directory)
    if dtype is not None and dtype not in [np.dtype(name) for name in DTYPES]:
        raise ArgumentError('adapter_dtype', dtype, f'expected one of {", ".join(DTYPES)}')
    for projection in config.targets:
        _check_entry(directory, config, adapter, projection)
    modules, settings = _modules(config, adapter, base_model)
    tensors: dict[str, np.ndarray] = {}
    for projection, layer in modules:
        entry, rank = adapter['layers'][projection], config.rank_of(projection, layer)
        a = np.asarray(entry['a'][layer], np.float32)[:, :rank].T
        b = np.asarray(entry['b'][layer], np.float32)[:rank].T
        for factor, value in (((projection, layer, 'A'), a), ((projection, layer, 'B'), b)):
            name, tensor = _in_file(config, factor, value, dtype)
            if not np.isfinite(tensor.astype(np.float32)).all():
                raise InputError(f'{directory}: {name} exceeds {tensor.dtype}')
            tensors[name] = tensor
    if os.path.isdir(directory) and any(directory.iterdir()):
        _replace_files(directory, tensors, settings)
    else:
        with io.atomic_directory(directory) as partial:
            tensor_files.write(partial / WEIGHTS_FILE, tensors)
            io.write_json(partial / CONFIG_FILE, settings)
            io.write_sums(partial)


def _replace_files(
    directory: pathlib.Path, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> None:
    """Replaces the files of an adapter in a directory that holds more.

    All are written before the first is renamed, and the sums are renamed first: if a kill comes in
    between, the adapter is refused by its sums, never read half old and half new.
    """
    with (
        io.atomic_file(directory / WEIGHTS_FILE) as weights,
        io.atomic_file(directory / CONFIG_FILE) as config,
        io.atomic_file(directory / io.SUMS_FILE) as sums,
    ):
        tensor_files.write(weights, tensors)
        io.write_json(config, settings)
        io.write_text(
            sums,
            io.format_sums({CONFIG_FILE: io.file_sum(config), WEIGHTS_FILE: io.file_sum(weights)}),
        )


def _check_entry(
    directory: pathlib.Path, config: LoraConfig, adapter: Adapter, projection: str
) -> None:
    """Checks that the config describes a projection's factors, all of them."""
    if projection not in adapter['layers']:
        raise InputError(f'{directory}: the adapter has no {projection}')
    entry = adapter['layers'][projection]
    a, b = np.asarray(entry['a'], np.float32), np.asarray(entry['b'], np.float32)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(f'{directory}: {projection} of the adapter holds NaN or infinity')
    depth = a.shape[0]
    layers = range(depth) if config.layers is None else config.layers
    if max(layers) >= depth:
        raise InputError(
            f'{directory}: {projection} of the adapter has {depth} layers, its config names layer '
            f'{max(layers)}'
        )
    if b[sorted(set(range(depth)) - set(layers))].any():
        raise InputError(f'{directory}: {projection} changes layers that its config leaves out')
    for layer in layers:
        rank = config.rank_of(projection, layer)
        is_cut = (a[layer, :, rank:].any(0) & b[layer, rank:].any(1)).any()
        if rank > a.shape[2] or is_cut:
            raise InputError(
                f'{directory}: {module_name(projection, layer)} has rank {a.shape[2]}, its config '
                f'says {rank}'
            )


def _modules(
    config: LoraConfig, adapter: Adapter, base_model: str | None
) -> tuple[list[Module], dict[str, Any]]:
    """Returns which modules to write, and the content of adapter_config.json."""
    depth = {name: np.shape(entry['a'])[0] for name, entry in adapter['layers'].items()}
    modules = [
        (projection, layer)
        for projection in config.targets
        for layer in (range(depth[projection]) if config.layers is None else config.layers)
    ]
    settings = schema.content(config, base_model)
    if config.file is None:
        return modules, settings
    read = config.file.settings
    settings = {**read, **settings, **{name: read[name] for name in _KEPT if name in read}}
    before = config.file.modules
    added = set(modules) - before
    is_same = before <= set(modules) and {name for name, _ in before} == set(config.targets)
    if is_same and not any(np.any(adapter['layers'][name]['b'][layer]) for name, layer in added):
        modules = sorted(before)
        if read.get('target_modules') is not None:
            settings.update({name: read[name] for name in _SELECTION if name in read})
    elif 'exclude_modules' in settings:
        settings['exclude_modules'] = None
    return modules, settings


def _in_file(
    config: LoraConfig, factor: Factor, value: np.ndarray, dtype: DTypeLike | None
) -> tuple[str, np.ndarray]:
    """Returns a factor's name and its numbers as they are stored.

    Args:
      config: of the adapter.
      factor: which.
      value: float32[R, in] of an 'A'; float32[out, R] of a 'B', with its scale.
      dtype: of the result, or None.
    """
    scale_of_module = config.scale_of(*factor[:2]) if factor[2] == 'B' else 1.0
    if config.file is not None and factor in config.file.tensors:
        name, known = config.file.tensors[factor]
        read = scale.fold(known, scale_of_module)
        if read.shape == value.shape and scale.same_bits(read, value).all():
            return name, _cast(known, dtype or known.dtype)
    else:
        name = names.tensor_name(factor)
    return name, _cast(scale.unfold(value, scale_of_module), dtype or np.float32)


def _cast(value: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Rounds to a dtype; what it cannot hold becomes infinite, which the caller refuses."""
    with np.errstate(over='ignore'):
        return value.astype(dtype)
