"""Checkpoints in Hugging Face format: read straight onto devices, written back."""

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.model_names import is_hub_id, split_revision
from lorajax.models import config as config_lib
from lorajax.models.config import ModelConfig
from lorajax.models.hf import hub
from lorajax.models.hf import names as hf_names
from lorajax.types import Params

INDEX = 'model.safetensors.index.json'
_SINGLE = 'model.safetensors'
SHARD_BYTES = 4_000_000_000
# Fits the second-level cache with its transpose: 11008 x 2048 in bfloat16 is transposed at
# 1.4 GB/s in pieces of this size and at 0.3 GB/s whole (one core).
_PIECE_BYTES = 1 << 20
_FLOATS = ('float32', 'bfloat16', 'float16', 'float64')


def resolve(path_or_id: str, revision: str | None = None) -> pathlib.Path:
    """Returns the local directory of a model, fetching a hub id if it is not a directory.

    Args:
      path_or_id: a directory in HF format, or a hub id such as 'Qwen/Qwen2.5-3B-Instruct',
        with a revision behind an @ or without.
      revision: branch, tag or commit on the hub, if the id names none.

    Raises:
      InputError: if it is neither, or the hub cannot be reached and nothing is cached.
    """
    path = pathlib.Path(path_or_id).expanduser()
    if path.is_dir():
        if not (path / 'config.json').is_file():
            raise InputError(f'{path}: holds no config.json, expected a model in HF format')
        return path
    repo, named = split_revision(path_or_id)
    if not is_hub_id(repo):
        raise InputError(
            f'{path_or_id}: no such directory, and not a hub id (owner/name or owner/name@revision)'
        )
    if named and revision and named != revision:
        raise InputError(f'{path_or_id}: names another revision than {revision}, expected one')
    directory = hub.fetch(repo, named or revision)
    if not (directory / 'config.json').is_file():
        raise InputError(f'{path_or_id}: has no config.json, expected a model in HF format')
    return directory


def _read_index(directory: pathlib.Path) -> dict[str, str]:
    """Returns the shard's file name by tensor name; empty if there is no index."""
    path = directory / INDEX
    if not path.is_file():
        return {}
    content = io.read_json(path)
    weight_map = content.get('weight_map') if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f'{path}: has no weight_map, expected the file of each tensor')
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or pathlib.PurePath(name).name != name:
            raise InputError(f'{path}: {tensor} is in {name!r}, expected a file beside the index')
    return weight_map


def shards(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the weight files of a model directory, in the order of their names.

    Raises:
      InputError: if there are none, one that the index names is not there, or the index is
        malformed.
    """
    found = [directory / name for name in sorted(set(_read_index(directory).values()))]
    for shard in found:
        if not shard.is_file():
            raise InputError(f'{directory / INDEX}: names {shard.name}, which is not there')
    if found:
        return found
    if (directory / _SINGLE).is_file():
        return [directory / _SINGLE]
    pickles = sorted(directory.glob('*.bin'))
    if pickles:
        raise InputError(f'{pickles[0]}: pickle weights are never loaded, expected safetensors')
    raise InputError(f'{directory}: holds neither {_SINGLE} nor {INDEX}')


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns an uninitialised array on a 64-byte boundary, which JAX on CPU takes as it is."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + size].view(dtype).reshape(shape)


def _copy(source: np.ndarray, destination: np.ndarray) -> None:
    """Copies into a view of another dtype or order of bytes; the cast is done once, row by row.

    Casting first and transposing then is ten times quicker than both at once for bfloat16,
    whose casts run element by element through a transposed view. The copy itself moves
    integers, since numpy copies bfloat16 one by one too.
    """
    source = source.astype(destination.dtype, copy=False)
    if source.dtype.name == 'bfloat16':
        source, destination = source.view(np.uint16), destination.view(np.uint16)
    destination[...] = source


def is_finite(array: np.ndarray) -> bool:
    """Says whether no element is NaN or infinite; looks at some megabytes at a time."""
    flat = array.reshape(-1)
    return all(_is_finite(flat[i : i + _PIECE_BYTES]) for i in range(0, flat.size, _PIECE_BYTES))


def _is_finite(array: np.ndarray) -> bool:
    """Says whether no element is NaN or infinite; bfloat16 by its exponent bits."""
    if array.dtype.name == 'bfloat16':
        return not ((array.view(np.uint16) & 0x7F80) == 0x7F80).any()
    return bool(np.isfinite(array).all())


def load_params(
    directory: io.PathLike,
    config: ModelConfig,
    param_dtype: Any,
    shardings: Mapping[str, jax.sharding.Sharding] | None = None,
) -> Params:
    """Reads a checkpoint into the parameter tree.

    Shards are streamed in pieces of some rows into one host buffer per leaf, cast and transposed
    on the way; a leaf goes to its devices as soon as its last layer has arrived.

    Args:
      directory: model directory in HF format.
      config: what the directory's config.json says.
      param_dtype: dtype to store.
      shardings: target sharding of each leaf by path; the default device if None.

    Returns:
      The tree; stacked leaves have a leading axis L.

    Raises:
      InputError: naming the tensor and file, if one is unknown, missing, doubled, misshapen
        or not a float, or holds NaN or infinity.
    """
    directory = pathlib.Path(directory)
    dtype = np.dtype(param_dtype)
    table, shapes = hf_names.table(config), hf_names.shapes(config)
    check_tensors(directory, config)
    waiting = {path: math.prod(shape) for path, shape in shapes.items()}  # elements to come
    buffers = {path: _aligned_empty(shape, dtype) for path, shape in shapes.items()}
    leaves: dict[str, jax.Array] = {}
    for shard in shards(directory):

        def place(
            name: str, rows: slice | None, piece: np.ndarray, shard: pathlib.Path = shard
        ) -> tuple[str, int] | None:
            """Puts some rows where they belong; returns that leaf and how many elements."""
            if hf_names.is_ignored(name, config):
                return None
            if not is_finite(piece):
                raise InputError(f'{shard}: {name} holds NaN or infinity')
            path, layer, transpose = table[name]
            leaf = buffers[path] if layer is None else buffers[path][layer]
            _copy(piece, leaf[:, rows].T if transpose else leaf[rows])
            return path, piece.size

        for placed in tensor_files.read_pieces(shard, _PIECE_BYTES, place):
            if placed is None:
                continue
            path, count = placed
            waiting[path] -= count
            if not waiting[path]:
                sharding = shardings[path] if shardings else None
                leaves[path] = jax.device_put(buffers.pop(path), sharding, may_alias=True)
    return unflatten(leaves)


def check_tensors(directory: pathlib.Path, config: ModelConfig) -> None:
    """Compares the headers of all weight files with what the config asks for.

    Raises:
      InputError: naming file and tensor, as `load_params`; no weight is read.
    """
    table, shapes = hf_names.table(config), hf_names.shapes(config)
    home: dict[str, pathlib.Path] = {}
    for shard in shards(directory):
        for name, entry in tensor_files.read_header(shard).items():
            if name in home:
                raise InputError(f'{shard}: {name} is also in {home[name].name}')
            home[name] = shard
            if hf_names.is_ignored(name, config):
                continue
            if name not in table:
                raise InputError(f'{shard}: unknown tensor {name} for {config.family}')
            path, layer, transpose = table[name]
            shape = shapes[path] if layer is None else shapes[path][1:]
            expected = shape[::-1] if transpose else shape
            if entry.shape != expected:
                raise InputError(f'{shard}: {name} is {entry.shape}, config.json says {expected}')
            if entry.dtype.name not in _FLOATS:
                raise InputError(
                    f'{shard}: {name} is {entry.dtype.name}, expected one of {", ".join(_FLOATS)}'
                )
    for name, file in _read_index(directory).items():
        if name not in home:
            raise InputError(f'{directory / INDEX}: {name} is in {file}, which does not hold it')
        if home[name].name != file:
            raise InputError(
                f'{directory / INDEX}: {name} is in {file}, but {home[name].name} holds it'
            )
    missing = [name for name in table if name not in home]
    if missing:
        more = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
        raise InputError(f'{directory}: lacks tensor {missing[0]}{more}')


def unflatten(leaves: dict[str, Any]) -> Params:
    """Turns {'a/b/c': leaf} into nested dicts."""
    tree: Params = {}
    for path, leaf in leaves.items():
        *parents, last = path.split('/')
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def flatten(tree: Params) -> dict[str, Any]:
    """Turns nested dicts into {'a/b/c': leaf}."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {'/'.join(key.key for key in path): leaf for path, leaf in flat}


def save_params(
    directory: io.PathLike,
    config: ModelConfig,
    params: Params,
    dtype: Any = None,
    extra_config: dict[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes `config.json` and safetensors shards that `transformers` loads.

    Args:
      directory: must exist; its other files are left alone.
      config: the model's config.
      params: base weights.
      dtype: dtype of the files; the stored one if None.
      extra_config: more fields for config.json, such as eos_token_id.
      shard_bytes: size from which a new shard is begun, bytes.
    """
    directory = pathlib.Path(directory)
    flat = flatten(params)
    table, shapes = hf_names.table(config), hf_names.shapes(config)
    stored = np.dtype(dtype or flat['embed/embedding'].dtype)

    def spec(name: str) -> tensor_files.Spec:
        path, layer, transpose = table[name]
        shape = shapes[path] if layer is None else shapes[path][1:]
        return tensor_files.Spec(stored, shape[::-1] if transpose else shape)

    def produce(name: str) -> np.ndarray:
        path, layer, transpose = table[name]
        leaf = np.asarray(flat[path] if layer is None else flat[path][layer])
        return (leaf.T if transpose else leaf).astype(stored)

    write_tensors(directory, {name: spec(name) for name in table}, produce, shard_bytes)
    content = {**config_lib.to_hf(config), 'torch_dtype': str(stored), **(extra_config or {})}
    io.write_json(directory / 'config.json', content)


def write_tensors(
    directory: pathlib.Path,
    specs: Mapping[str, tensor_files.Spec],
    produce: Callable[[str], np.ndarray],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes the tensors of a checkpoint as one file, or as shards with an index.

    Args:
      directory: where to.
      specs: dtype and shape of each tensor, in the order in which shards are filled.
      produce: returns the tensor of a name; called once each.
      shard_bytes: size from which a new shard is begun, bytes.
    """
    groups: list[dict[str, tensor_files.Spec]] = [{}]
    size = total = 0
    for name, spec in specs.items():
        bytes_ = math.prod(spec.shape) * spec.dtype.itemsize
        if size and size + bytes_ > shard_bytes:
            groups.append({})
            size = 0
        groups[-1][name] = spec
        size, total = size + bytes_, total + bytes_
    files = [_SINGLE]
    if len(groups) > 1:
        count = len(groups)
        files = [f'model-{i:05d}-of-{count:05d}.safetensors' for i in range(1, count + 1)]
    for file, group in zip(files, groups, strict=True):
        tensor_files.write_each(directory / file, group, produce)
    if len(groups) > 1:  # last, so that it never names what is not there
        weight_map = {
            name: file for file, group in zip(files, groups, strict=True) for name in group
        }
        index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
        io.write_json(directory / INDEX, index)
