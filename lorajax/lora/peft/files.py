"""Adapters in PEFT format, read and written with the same bits both ways.

PEFT stores `lora_A` as [R, in] and `lora_B` as [out, R] per layer, and the scale alpha / rank
in the config. Here they are `a` [L, in, R] and `b` [L, R, out] with the scale folded into `b`,
so a tree alone says what it does to a model.

Reading and writing again gives the file's tensors bit for bit, in its dtypes and under its names:
`load_peft` keeps in `LoraConfig.file` what the tree cannot say, and `save_peft` uses of it what
still agrees with the tree. Writing and reading again gives the tree bit for bit, whatever the
scale: where no float32 times the scale is the tree's `b`, as for a tree whose `b` was never
multiplied by that scale, the missing last bits go to a small file beside (`RESIDUAL_FILE`), which
other programs ignore.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.lora.config import TARGETS, LoraConfig, PeftFile, module_name
from lorajax.lora.peft import scale, schema
from lorajax.types import Adapter

CONFIG_FILE = 'adapter_config.json'
WEIGHTS_FILE = 'adapter_model.safetensors'
# By tensor of WEIGHTS_FILE, units in the last place that its fold lacks; and the checksum of the
# WEIGHTS_FILE that it belongs to, as the name of an empty tensor.
RESIDUAL_FILE = 'lorajax_residual.safetensors'
DTYPES = ('float32', 'bfloat16', 'float16')
# Settings that say which modules are adapted, and those that change nothing here.
_SELECTION = ('target_modules', 'layers_to_transform', 'layers_pattern', 'exclude_modules')
_KEPT = ('task_type', 'init_lora_weights', 'inference_mode')
# With and without the prefixes of PeftModel and of the causal language model.
_KEY = re.compile(
    r'(?:base_model\.model\.)?((?:model\.)?layers\.(\d+)\.'
    rf'(?:self_attn\.({"|".join(TARGETS[:4])})|mlp\.({"|".join(TARGETS[4:])})))'
    r'\.lora_([AB])(?:\.default)?\.weight'
)
_Key = tuple[str, int, str]  # projection, layer, 'A' or 'B'
_Module = tuple[str, int]  # projection, layer


def load_peft(
    directory: io.PathLike,
    num_layers: int | None = None,
    projections: Mapping[str, tuple[int, int]] | None = None,
) -> tuple[LoraConfig, Adapter]:
    """Reads an adapter in PEFT format.

    Args:
      directory: holds adapter_config.json and adapter_model.safetensors.
      num_layers: L of the base model; by default the highest layer in the file plus one.
        Layers without an adapter get zeros, ranks below the highest are filled with zeros.
      projections: input and output width by name, of the base model; not checked by default.

    Returns:
      The config, whose `targets` are those in the file, and the tree in float32. If target_modules
      adapts only some layers, and every projection in the same ones, these are its `layers`.

    Raises:
      InputError: naming the file, for anything that cannot be represented exactly (DoRA,
        trained biases, pickles, ...), is missing, has the wrong shape or is not finite.
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise InputError(f'{directory}: no such directory, expected an adapter in PEFT format')
    config, settings = schema.read(directory / CONFIG_FILE)
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        pickled = directory / 'adapter_model.bin'
        if pickled.is_file():
            raise InputError(f'{pickled}: pickle weights are never loaded, expected {WEIGHTS_FILE}')
        raise InputError(f'{path}: no such file')
    factors, names, dtypes, prefix = _read_factors(path)
    for projection, layer, factor in factors:
        other = 'B' if factor == 'A' else 'A'
        if (projection, layer, other) not in factors:
            lacking = f'{module_name(projection, layer)}.lora_{other}.weight'
            raise InputError(f'{path}: lacks tensor {lacking}')
    depth = _check_modules(path, config, settings, {key[:2] for key in factors}, prefix, num_layers)
    for module in sorted({key[:2] for key in factors}):
        _check_shapes(path, config, factors, module, projections)
    targets = tuple(name for name in TARGETS if any(key[0] == name for key in factors))
    missing = _read_residual(directory)
    folded = {
        key[:2]: _fold(path, config, factors, names, missing, key[:2])
        for key in factors if key[2] == 'B'
    }  # fmt: skip
    layers = {name: _stack(factors, folded, name, depth) for name in targets}
    adapted = {layer for _, layer, _ in factors}
    is_uniform = len(factors) == 2 * len(targets) * len(adapted)
    if config.layers is None and len(adapted) < depth and is_uniform:
        config = dataclasses.replace(config, layers=tuple(sorted(adapted)))
    file = PeftFile(settings, names, dtypes, _lost(config, factors, folded, dtypes))
    return dataclasses.replace(config, targets=targets, file=file), {'layers': layers}


def _read_factors(
    path: pathlib.Path,
) -> tuple[dict[_Key, np.ndarray], dict[_Key, str], dict[_Key, np.dtype], str]:
    """Returns all factors in float32, their names and dtypes, and the prefix of module names."""
    factors: dict[_Key, np.ndarray] = {}
    names: dict[_Key, str] = {}
    dtypes: dict[_Key, np.dtype] = {}
    prefix = 'model.'
    for name, tensor in tensor_files.read(path).items():
        match = _KEY.fullmatch(name)
        if not match:
            raise InputError(f'{path}: unknown tensor {name}, expected LoRA factors of projections')
        module, key = match[1], (match[3] or match[4], int(match[2]), match[5])
        if key in factors:
            raise InputError(f'{path}: {name} and {names[key]} are the same factor')
        if tensor.dtype.kind != 'f' and tensor.dtype.name != 'bfloat16':
            raise InputError(f'{path}: {name} is {tensor.dtype}, expected a float')
        if tensor.ndim != 2:
            raise InputError(f'{path}: {name} has shape {tensor.shape}, expected a matrix')
        value = tensor.astype(np.float32)
        if not np.isfinite(value).all():
            raise InputError(f'{path}: {name} holds NaN or infinity')
        factors[key], names[key], dtypes[key] = value, name, tensor.dtype
        prefix = module[: module.index('layers.')]
    if not factors:
        raise InputError(f'{path}: holds no LoRA tensors')
    return factors, names, dtypes, prefix


def _check_modules(
    path: pathlib.Path,
    config: LoraConfig,
    settings: Mapping[str, Any],
    present: set[_Module],
    prefix: str,
    num_layers: int | None,
) -> int:
    """Checks that the file has just the modules that its config adapts; returns the depth."""
    highest = max(layer for _, layer in present) + 1
    depth = num_layers or highest
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
            if schema.is_targeted(settings, prefix + _bare_name(projection, layer))
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


def _bare_name(projection: str, layer: int) -> str:
    """Returns a module's name in the decoder without its head."""
    return module_name(projection, layer).removeprefix('model.')


def _check_shapes(
    path: pathlib.Path,
    config: LoraConfig,
    factors: Mapping[_Key, np.ndarray],
    module: _Module,
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
    first = min(key[1] for key in factors if key[0] == module[0])
    expected = factors[module[0], first, 'A'].shape[1], factors[module[0], first, 'B'].shape[0]
    if widths != expected:
        raise InputError(
            f'{path}: {name} has widths (in, out) {widths}, expected {expected} as in layer {first}'
        )


def _fold(
    path: pathlib.Path,
    config: LoraConfig,
    factors: Mapping[_Key, np.ndarray],
    names: Mapping[_Key, str],
    missing: Mapping[str, np.ndarray],
    module: _Module,
) -> np.ndarray:
    """Returns float32[out, R], a module's `lora_B` times its scale."""
    name, factor = names[*module, 'B'], config.scale_of(*module)
    folded = scale.fold(factors[*module, 'B'], factor)
    if name in missing:
        if missing[name].shape != folded.shape:
            raise InputError(
                f'{path.parent / RESIDUAL_FILE}: {name} has shape {missing[name].shape}, '
                f'expected {folded.shape}'
            )
        folded = scale.add_residual(folded, missing[name])
    if not np.isfinite(folded).all():
        raise InputError(f'{path}: {name} times its scale {factor:g} exceeds float32')
    return folded


def _stack(
    factors: Mapping[_Key, np.ndarray],
    folded: Mapping[_Module, np.ndarray],
    projection: str,
    depth: int,
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


def _lost(
    config: LoraConfig,
    factors: Mapping[_Key, np.ndarray],
    folded: Mapping[_Module, np.ndarray],
    dtypes: Mapping[_Key, np.dtype],
) -> dict[_Module, np.ndarray]:
    """Returns each `lora_B` that dividing by the scale does not give back."""
    lost = {}
    for module, b in folded.items():
        divided = scale.unfold(b, config.scale_of(*module))
        again = divided.astype(dtypes[*module, 'B']).astype(np.float32)
        if not scale.same_bits(again, factors[*module, 'B']).all():
            lost[module] = factors[*module, 'B']
    return lost


def _read_residual(directory: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the last bits that the weights lack; nothing if they belong to other weights."""
    path = directory / RESIDUAL_FILE
    if not path.is_file():
        return {}
    missing = tensor_files.read(path)
    return missing if missing.pop(_owner(directory / WEIGHTS_FILE), None) is not None else {}


def delta_weight(config: LoraConfig, adapter: Adapter, projection: str, layer: int) -> np.ndarray:
    """Returns float32[out, in], the change of a weight in its own layout, with the scale last.

    That is the order of operations of peft's `merge_and_unload`, and so its bits, but for the
    order in which a library for matrix products sums.
    """
    entry, rank = adapter['layers'][projection], config.rank_of(projection, layer)
    a = np.asarray(entry['a'][layer], np.float32)[:, :rank].T
    b = np.asarray(entry['b'][layer], np.float32)[:rank].T
    unscaled = _unscaled(config, (projection, layer), b)
    return (unscaled @ a) * np.float32(config.scale_of(projection, layer))


def save_peft(
    directory: io.PathLike,
    config: LoraConfig,
    adapter: Adapter,
    base_model: str | None = None,
    dtype: Any = None,
) -> None:
    """Writes an adapter in PEFT format; peft and vLLM load the directory.

    vLLM reads r, lora_alpha and use_rslora but neither rank_pattern nor alpha_pattern. For it,
    write an adapter that has patterns with `LoraConfig(rank=R, alpha=R, targets=config.targets)`
    instead, R the tree's highest rank: the scales are in the tree already.

    Args:
      directory: made as a whole if it is absent or empty; otherwise its adapter files are
        replaced and others left alone.
      config: its scale is divided out of `b` again. What `load_peft` left in it is used where it
        agrees with the tree: names, dtypes, `lora_B` before its scale, further settings.
      adapter: the tree; `config.targets` are written.
      base_model: name or path of the base model; `config.base_model` if None. PEFT has a field
        of its own for the revision of 'owner/name@revision'.
      dtype: of the file: 'float32', 'bfloat16' or 'float16'. None takes that of the file that
        was read for each tensor that it holds without loss, and float32 for all others.

    Raises:
      InputError: if the adapter is not finite, lacks a target, has a rank or layers that the
        config does not, or exceeds what `dtype` can hold. Nothing is written then.
    """
    directory = pathlib.Path(directory)
    if dtype is not None and dtype not in [np.dtype(name) for name in DTYPES]:
        raise InputError(f'{directory}: dtype is {dtype}, expected one of {", ".join(DTYPES)}')
    for projection in config.targets:
        _check_entry(directory, config, adapter, projection)
    modules, settings = _modules(config, adapter, base_model)
    tensors: dict[str, np.ndarray] = {}
    missing: dict[str, np.ndarray] = {}
    for module in modules:
        entry, rank = adapter['layers'][module[0]], config.rank_of(*module)
        a = np.asarray(entry['a'][module[1]], np.float32)[:, :rank].T
        b = np.asarray(entry['b'][module[1]], np.float32)[:rank].T
        name_a, name_b = (_tensor_name(config, (*module, factor)) for factor in 'AB')
        tensors[name_a] = _cast_a(config, module, a, dtype)
        tensors[name_b] = _cast_b(config, module, b, dtype)
        for name in (name_a, name_b):
            if not np.isfinite(tensors[name].astype(np.float32)).all():
                raise InputError(f'{directory}: {name} exceeds {tensors[name].dtype}')
        if tensors[name_b].dtype == np.float32:
            rest = scale.residual(tensors[name_b], b, config.scale_of(*module))
            if rest is not None:
                missing[name_b] = rest
    if directory.is_dir() and any(directory.iterdir()):
        _write(directory, tensors, missing, settings)
    else:
        with io.atomic_directory(directory) as temporary:
            _write(temporary, tensors, missing, settings)


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
) -> tuple[list[_Module], dict[str, Any]]:
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
    before = {key[:2] for key in config.file.names}
    added = set(modules) - before
    is_same = before <= set(modules) and {name for name, _ in before} == set(config.targets)
    if is_same and not any(np.any(adapter['layers'][name]['b'][layer]) for name, layer in added):
        modules = sorted(before)
        if read.get('target_modules') is not None:
            settings.update({name: read[name] for name in _SELECTION if name in read})
    elif 'exclude_modules' in settings:
        settings['exclude_modules'] = None
    return modules, settings


def _tensor_name(config: LoraConfig, key: _Key) -> str:
    """Returns a factor's name in the file."""
    known = config.file.names if config.file else {}
    return known.get(key, f'base_model.model.{module_name(*key[:2])}.lora_{key[2]}.weight')


def _cast_a(config: LoraConfig, module: _Module, a: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns float32[R, in] in the dtype of the file."""
    if dtype is None:
        kept = _cast(a, _file_dtype(config, (*module, 'A')))
        return kept if scale.same_bits(kept.astype(np.float32), a).all() else a
    return _cast(a, dtype)


def _cast_b(config: LoraConfig, module: _Module, b: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns float32[out, R], without its scale, in the dtype of the file."""
    unscaled = _unscaled(config, module, b)
    if dtype is None:
        kept = _cast(unscaled, _file_dtype(config, (*module, 'B')))
        folded = scale.fold(kept, config.scale_of(*module))
        return kept if scale.same_bits(folded, b).all() else unscaled
    return _cast(unscaled, dtype)


def _unscaled(config: LoraConfig, module: _Module, b: np.ndarray) -> np.ndarray:
    """Returns float32[out, R] without its scale: as in the file that was read, where it agrees."""
    factor = config.scale_of(*module)
    unscaled = scale.unfold(b, factor)
    known = config.file.unscaled.get(module) if config.file else None
    if known is None or known.shape != b.shape:
        return unscaled
    return np.where(scale.same_bits(scale.fold(known, factor), b), known, unscaled)


def _file_dtype(config: LoraConfig, key: _Key) -> np.dtype:
    """Returns the dtype that a factor had in the file that was read, float32 if there is none."""
    dtype = config.file.dtypes.get(key) if config.file else None
    return dtype if dtype is not None and dtype.name in DTYPES else np.dtype(np.float32)


def _cast(value: np.ndarray, dtype: Any) -> np.ndarray:
    """Rounds to a dtype; what it cannot hold becomes infinite, which the caller refuses."""
    with np.errstate(over='ignore'):
        return value.astype(dtype)


def _write(
    directory: pathlib.Path,
    tensors: Mapping[str, np.ndarray],
    missing: Mapping[str, np.ndarray],
    settings: Mapping[str, Any],
) -> None:
    """Writes the files of an adapter; the residual only where there is one."""
    tensor_files.write(directory / WEIGHTS_FILE, tensors)
    io.write_json(directory / CONFIG_FILE, settings)
    if missing:
        owner = _owner(directory / WEIGHTS_FILE)
        tensor_files.write(directory / RESIDUAL_FILE, {**missing, owner: np.zeros((), np.int8)})
    else:
        (directory / RESIDUAL_FILE).unlink(missing_ok=True)


def _owner(weights: pathlib.Path) -> str:
    """Names the weights that a residual belongs to."""
    return str(weights)
