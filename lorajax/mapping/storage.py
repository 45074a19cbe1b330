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

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.io import fields, tensor_files
from lorajax.lora.config import TARGETS
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.methods import method_named
from lorajax.mapping.options import Options
from lorajax.mapping.shapes import Shape
from lorajax.mapping.state import MappingState
from lorajax.mapping.subspace import Basis, Frame, Tensors
from lorajax.types import Array, JsonDict

FORMAT = 2
_MANIFEST = 'mapping.json'
_DTYPES = {'float32': np.dtype(np.float32), 'bfloat16': np.dtype(ml_dtypes.bfloat16)}
_ANCHORS = ('source', 'target')
_FRAMES = ('frame', 'source_frame')
_TASKS = fields.Kind(
    'a list of different names, sorted',
    lambda value: fields.list_of(fields.TEXT).fits(value) and value == sorted(set(value)) != [],
)
_TENSORS = fields.Kind(
    'a list of pairs of projection and layer',
    lambda value: (
        isinstance(value, list)
        and all(
            isinstance(pair, list)
            and len(pair) == 2
            and pair[0] in TARGETS
            and fields.INDEX.fits(pair[1])
            for pair in value
        )
        and len(value) == len({tuple(pair) for pair in value}) > 0
    ),
)


class Header(NamedTuple):
    """What a mapping is, beside its state; see `api.TransferMap`."""

    method: str
    options: Options
    tasks: tuple[str, ...]
    query_shapes: Mapping[str, Shape]
    output_rank: int


def save(
    directory: io.PathLike, header: Header, state: MappingState, dtype: str = 'float32'
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
        manifest: JsonDict = {
            'format': FORMAT,
            **header._asdict(),
            'options': dataclasses.asdict(header.options),
            'query_shapes': {p: dataclasses.asdict(s) for p, s in header.query_shapes.items()},
            'tensors': state.tensors,
            'info': state.info,
        }
        for part in _ANCHORS:
            anchors = getattr(state, part)
            if anchors is not None:
                manifest[part] = list(anchors.tasks)
                _save_anchors(root / part, anchors, _DTYPES[dtype])
        if state.per_tensor:
            _save_each(root / 'tensors', state.per_tensor)
        for part in _FRAMES:
            frame = getattr(state, part)
            if frame is not None:
                manifest[f'{part}_tensors'] = frame.tensors
                _save_each(root / part, [basis._asdict() for basis in frame.bases], _DTYPES[dtype])
        io.write_json(root / _MANIFEST, manifest)
        io.write_sums(root)


def load(directory: io.PathLike) -> tuple[Header, MappingState]:
    """Reads what `save` wrote.

    Returns:
      The header given to `save`, and the mapping.

    Raises:
      InputError: if the directory is no mapping, of another format, a file is missing or differs
        from what was written, or a field of mapping.json is not what it may be.
    """
    root = pathlib.Path(directory)
    path = root / _MANIFEST
    manifest = fields.require_object(path, io.read_json(path))
    fields.require(path, manifest, 'format', fields.one_of(FORMAT))
    io.check_sums(root)
    header = _read_header(path, manifest)
    parts: dict[str, Any] = {
        part: _load_anchors(root / part, fields.require(path, manifest, part, _TASKS), part)
        for part in _ANCHORS
        if part in manifest
    }
    for part in parts:
        if parts[part].tasks != header.tasks:
            raise InputError(
                f'{path}: {part} is {io.show(manifest[part])}, expected the tasks '
                f'{io.show(list(header.tasks))}'
            )
    tensors = _read_tensors(path, manifest, 'tensors')
    for part in _FRAMES:
        if f'{part}_tensors' in manifest:
            named = _read_tensors(path, manifest, f'{part}_tensors')
            parts[part] = Frame(named, [_read_basis(file) for file in _files(root / part, named)])
    if (root / 'tensors').exists():
        parts['per_tensor'] = [tensor_files.read(f) for f in _files(root / 'tensors', tensors)]
    arrays = tensor_files.read(root / 'arrays.safetensors')
    info = fields.require(path, manifest, 'info', fields.OBJECT)
    return header, MappingState(tensors, arrays, info, **parts)


def _read_header(path: pathlib.Path, manifest: JsonDict) -> Header:
    """Checks the fields of mapping.json that say what the mapping is."""
    method = fields.require(path, manifest, 'method', fields.TEXT)
    stored = fields.require(path, manifest, 'options', fields.OBJECT)
    names = {field.name for field in dataclasses.fields(Options)}
    if set(stored) != names:
        wrong = sorted(set(stored) ^ names)
        raise InputError(f'{path}: options differ in {wrong[0]!r}, expected {sorted(names)}')
    try:
        method_named(method)
        options = Options(**stored)
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    shapes = fields.require(path, manifest, 'query_shapes', fields.object_of(fields.OBJECT))
    return Header(
        method,
        options,
        tuple(fields.require(path, manifest, 'tasks', _TASKS)),
        {name: _read_shape(f'{path}: {name}', name, shape) for name, shape in shapes.items()},
        fields.require(path, manifest, 'output_rank', fields.COUNT),
    )


def _read_shape(where: str, projection: str, content: JsonDict) -> Shape:
    """Checks the shape of one projection."""
    if projection not in TARGETS:
        raise InputError(f'{where}: is no projection, expected some of {", ".join(TARGETS)}')
    names = [field.name for field in dataclasses.fields(Shape)]
    return Shape(**{name: fields.require(where, content, name, fields.COUNT) for name in names})


def _read_tensors(path: pathlib.Path, manifest: JsonDict, name: str) -> Tensors:
    """Checks a list of tensors."""
    pairs = fields.require(path, manifest, name, _TENSORS)
    return [(projection, layer) for projection, layer in pairs]


def _save_anchors(root: pathlib.Path, anchors: Anchors, dtype: np.dtype) -> None:
    """Writes one file per anchor."""
    root.mkdir()
    for index, tree in enumerate(anchors.trees.values()):
        leaves = {
            f'{projection}.{key}': np.asarray(leaf[:], dtype)
            for projection, factors in tree['layers'].items()
            for key, leaf in factors.items()
        }
        tensor_files.write(_file(root, index), leaves)


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
        tensor_files.write(_file(root, index), on_host)


def _read_basis(path: pathlib.Path) -> Basis:
    """Opens the bases of one tensor."""
    arrays = tensor_files.map_tensors(path)
    if set(arrays) != set(Basis._fields):
        raise InputError(f'{path}: holds {sorted(arrays)}, expected {sorted(Basis._fields)}')
    return Basis(**arrays)


def _file(root: pathlib.Path, index: int) -> pathlib.Path:
    """Returns where one of several parts of a kind stands."""
    return root / f'{index:04d}.safetensors'


def _files(root: pathlib.Path, parts: Sequence[Any]) -> list[pathlib.Path]:
    """Returns the files of several parts of a kind, in order."""
    return [_file(root, index) for index in range(len(parts))]
