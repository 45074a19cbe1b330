"""Fitted mappings on disk: safetensors and JSON in one directory, written whole or not at all.

  mapping.json                 format, method, options, shapes, diagnostics
  arrays.safetensors           small arrays
  {source,target}/0000.safetensors    one anchor each, in the order of the tasks in mapping.json
  {frame,source_frame}/0000.safetensors    bases of one tensor each
  tensors/0000.safetensors     what else a method keeps for each target tensor
  SHA256SUMS                   of all of these

Anchors and bases are written one file at a time and stay on disk after loading: their leaves are
views of the files, read when they are used.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.io import fields, tensor_files
from lorajax.mapping import integrity, manifest
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.methods import method_named
from lorajax.mapping.state import MappingState
from lorajax.mapping.subspace import Basis, Frame
from lorajax.types import Array, JsonDict

BASES = 'bases.json'  # the names of the two base models, where they are known
_DTYPES = {'float32': np.dtype(np.float32), 'bfloat16': np.dtype(ml_dtypes.bfloat16)}


def read_bases(directory: io.PathLike) -> dict[str, str]:
    """Returns the names of the 'source' and 'target' base models of a mapping, {} if unknown.

    Raises:
      InputError: if the file holds something else.
    """
    path = pathlib.Path(directory) / BASES
    if not path.is_file():
        return {}
    content = fields.require_object(path, io.read_json(path))
    return {side: fields.require(path, content, side, fields.TEXT) for side in manifest.ANCHORS}


def save(
    directory: io.PathLike, header: manifest.Header, state: MappingState, dtype: str = 'float32'
) -> None:
    """Writes a fitted mapping; replaces what is at `directory` as a whole.

    Args:
      directory: to make.
      header: what `load` shall return beside the state.
      state: the mapping.
      dtype: of anchors and bases on disk, 'float32' or 'bfloat16'.

    Raises:
      ArgumentError: on another dtype.
    """
    if dtype not in _DTYPES:
        raise ArgumentError('dtype', dtype, f'expected one of {", ".join(_DTYPES)}')
    with io.atomic_directory(directory) as root:
        tensor_files.write(root / 'arrays.safetensors', state.arrays)
        content = manifest.write_header(header) | {'tensors': state.tensors, 'info': state.info}
        for part in manifest.ANCHORS:
            anchors = getattr(state, part)
            if anchors is not None:
                content[part] = list(anchors.tasks)
                _save_anchors(root / part, anchors, _DTYPES[dtype])
        if state.per_tensor:
            _save_each(root / 'tensors', state.per_tensor)
        for part in manifest.FRAMES:
            frame = getattr(state, part)
            if frame is not None:
                content[f'{part}_tensors'] = frame.tensors
                _save_each(root / part, [basis._asdict() for basis in frame.bases], _DTYPES[dtype])
        io.write_json(root / manifest.FILE, content)
        io.write_sums(root)


def load(directory: io.PathLike) -> tuple[manifest.Header, MappingState]:
    """Reads what `save` wrote.

    Returns:
      The header given to `save`, and the mapping.

    Raises:
      InputError: if the directory is no mapping, of another format, a file is missing or differs
        from what was written, a field of mapping.json is not what it may be, or an array is none
        that the method keeps. Anchors and bases are only read where they are used, so NaN in
        them shows in `predict`.
    """
    root = pathlib.Path(directory)
    path = root / manifest.FILE
    content = manifest.read(path)
    io.check_sums(root)
    header = manifest.read_header(path, content)
    parts: dict[str, Any] = {
        part: _load_anchors(root / part, fields.require(path, content, part, manifest.TASKS), part)
        for part in manifest.ANCHORS
        if part in content
    }
    tensors = manifest.read_tensors(path, content, 'tensors')
    for part in manifest.FRAMES:
        if f'{part}_tensors' in content:
            named = manifest.read_tensors(path, content, f'{part}_tensors')
            parts[part] = Frame(named, [_read_basis(file) for file in _files(root / part, named)])
    if method_named(header.method).layout.per_tensor:
        parts['per_tensor'] = [tensor_files.read(f) for f in _files(root / 'tensors', tensors)]
    arrays = tensor_files.read(root / 'arrays.safetensors')
    state = MappingState(tensors, arrays, manifest.read_info(path, content), **parts)
    integrity.check(root, header, state)
    return header, state


def _save_anchors(root: pathlib.Path, anchors: Anchors, dtype: np.dtype) -> None:
    """Writes one file per anchor."""
    root.mkdir()
    for index, tree in enumerate(anchors.trees.values()):
        leaves = {
            f'{projection}.{key}': np.asarray(leaf[:], dtype)
            for projection, factors in tree['layers'].items()
            for key, leaf in factors.items()
        }
        tensor_files.write(manifest.file_of(root, index), leaves)


def _load_anchors(root: pathlib.Path, tasks: list[str], side: str) -> Anchors:
    """Opens one file per anchor."""
    adapters = {}
    for path, task in zip(_files(root, tasks), tasks, strict=True):
        layers: dict[str, JsonDict] = {}
        for name, leaf in tensor_files.map_tensors(path).items():
            projection, _, key = name.partition('.')
            layers.setdefault(projection, {})[key] = leaf
        adapters[task] = {'layers': layers}
    return Anchors(adapters, side)


def _save_each(
    root: pathlib.Path, tensors: Sequence[Mapping[str, Array]], dtype: np.dtype | None = None
) -> None:
    """Writes one file per tensor, in another dtype if one is given."""
    root.mkdir()
    for index, arrays in enumerate(tensors):
        on_host = {name: np.asarray(array, dtype) for name, array in arrays.items()}
        tensor_files.write(manifest.file_of(root, index), on_host)


def _read_basis(path: pathlib.Path) -> Basis:
    """Opens the bases of one tensor."""
    arrays = tensor_files.map_tensors(path)
    if set(arrays) != set(Basis._fields):
        raise InputError(
            f'{path}: holds {io.show(sorted(arrays))}, expected {sorted(Basis._fields)}'
        )
    return Basis(**arrays)


def _files(root: pathlib.Path, parts: Sequence[Any]) -> list[pathlib.Path]:
    """Returns the files of several parts of a kind, in order."""
    return [manifest.file_of(root, index) for index in range(len(parts))]
