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

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.io import fields, tensor_files
from lorajax.io.reading import shorten
from lorajax.lora.config import TARGETS
from lorajax.mapping import layout
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.methods import method_named
from lorajax.mapping.options import Options
from lorajax.mapping.shapes import Shape
from lorajax.mapping.state import MappingState
from lorajax.mapping.subspace import Basis, Frame, Tensors
from lorajax.types import Array, JsonDict

FORMAT = 2
_MANIFEST = 'mapping.json'
BASES = 'bases.json'  # the names of the two base models, where they are known
_DTYPES = {'float32': np.dtype(np.float32), 'bfloat16': np.dtype(ml_dtypes.bfloat16)}
_ANCHORS = ('source', 'target')
_FRAMES = ('frame', 'source_frame')
_TASKS = fields.Kind(
    'a list of different names, sorted',
    lambda value: fields.list_of(fields.TEXT).fits(value) and value == sorted(set(value)) != [],
)
_TENSORS = fields.Kind(
    'a list of pairs of projection and layer, the layers of each projection from 0 on',
    lambda value: (
        isinstance(value, list)
        and all(
            isinstance(pair, list)
            and len(pair) == 2
            and pair[0] in TARGETS
            and fields.INDEX.fits(pair[1])
            for pair in value
        )
        and value == _grid(collections.Counter(pair[0] for pair in value)) != []
    ),
)
_RANK = fields.Kind(
    'an integer from 1 to 65536', lambda value: fields.COUNT.fits(value) and value <= 65536
)
_NUMBERS = fields.list_of(fields.NUMBER)
# What `predict` and the model card read of it; the rest may be anything.
_INFO = {
    'mean_anchor_norm': fields.Kind(
        'a number from 0 on', lambda value: fields.NUMBER.fits(value) and value >= 0
    ),
    'validation': fields.TEXT,
}
_OPTIONAL_INFO = {
    'loo_r2': fields.NUMBER,
    'loo_cosine': fields.NUMBER,
    'loo_norm_ratio': fields.NUMBER,
    'loo_r2_by_anchor': _NUMBERS,
    'anchor_span_distances': _NUMBERS,
    'fallback': fields.TEXT,
}


class Header(NamedTuple):
    """What a mapping is, beside its state; see `api.TransferMap`."""

    method: str
    options: Options
    tasks: tuple[str, ...]
    query_shapes: Mapping[str, Shape]
    output_rank: int


def read_bases(directory: io.PathLike) -> dict[str, str]:
    """Returns the names of the 'source' and 'target' base models of a mapping, {} if unknown.

    Raises:
      InputError: if the file holds something else.
    """
    path = pathlib.Path(directory) / BASES
    if not path.is_file():
        return {}
    content = fields.require_object(path, io.read_json(path))
    return {side: fields.require(path, content, side, fields.TEXT) for side in _ANCHORS}


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
        from what was written, a field of mapping.json is not what it may be, or an array is none
        that the method keeps. Anchors and bases are only read where they are used, so NaN in
        them shows in `predict`.
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
    if method_named(header.method).layout.per_tensor:
        parts['per_tensor'] = [tensor_files.read(f) for f in _files(root / 'tensors', tensors)]
    arrays = tensor_files.read(root / 'arrays.safetensors')
    state = MappingState(tensors, arrays, _read_info(path, manifest), **parts)
    _check_parts(path, header, state)
    _check_arrays(root, header, state)
    return header, state


def _grid(depths: Mapping[str, int]) -> list[list[Any]]:
    """Returns pairs of projection and layer, as JSON has them, in the order of `TARGETS`."""
    return [[p, layer] for p in TARGETS if p in depths for layer in range(depths[p])]


def _read_info(path: pathlib.Path, manifest: JsonDict) -> JsonDict:
    """Checks those of the diagnostics that something reads."""
    info = fields.require(path, manifest, 'info', fields.OBJECT)
    where = f'{path}: info'
    for name, kind in _INFO.items():
        fields.require(where, info, name, kind)
    for name, kind in _OPTIONAL_INFO.items():
        fields.require(where, info, name, kind, default=None)
    return info


def _check_parts(path: pathlib.Path, header: Header, state: MappingState) -> None:
    """Checks that anchors and bases are those of the method, and fit the shapes in the header."""
    expected = method_named(header.method).layout.parts
    here = [part for part in (*_ANCHORS, *_FRAMES) if getattr(state, part) is not None]
    if set(here) != set(expected):
        raise InputError(f'{path}: has {here}, expected {list(expected)} for {header.method}')
    if state.source and state.source.shapes != header.query_shapes:
        raise InputError(f'{path}: query_shapes are not those of the adapters in source')
    if state.target and state.target.tensors != state.tensors:
        raise InputError(f'{path}: tensors are not those of the adapters in target')
    if state.frame and state.frame.tensors != state.tensors:
        raise InputError(f'{path}: frame_tensors differ from tensors, expected the same')
    queried = [(p, k) for p, shape in header.query_shapes.items() for k in range(shape.layers)]
    if state.source_frame and state.source_frame.tensors != queried:
        raise InputError(f'{path}: source_frame_tensors are not those of query_shapes')
    for part in _FRAMES:
        frame = getattr(state, part)
        if frame is not None:
            _check_bases(path.parent / part, frame, len(header.tasks))
    if state.source_frame:
        for (projection, _), basis in zip(queried, state.source_frame.bases, strict=True):
            shape, widths = header.query_shapes[projection], (len(basis.q_in), len(basis.q_out))
            if widths != (shape.n_in, shape.n_out):
                raise InputError(f'{path}: {projection} has bases of widths {widths}, not {shape}')


def _check_bases(root: pathlib.Path, frame: Frame, anchors: int) -> None:
    """Checks the shapes of a side's bases; reads nothing but headers."""
    widths: dict[str, tuple[int, ...]] = {}
    for index, ((projection, _), basis) in enumerate(zip(frame.tensors, frame.bases, strict=True)):
        shapes = [part.shape for part in basis]
        q_in, q_out, a, b = shapes
        fits = list(map(len, shapes)) == [2, 2, 3, 3] and (
            a == (anchors, q_in[1], a[2]) and b == (anchors, a[2], q_out[1])
        )
        if not fits or widths.setdefault(projection, (q_in[0], q_out[0])) != (q_in[0], q_out[0]):
            raise InputError(
                f'{_file(root, index)}: holds shapes {shapes}, expected q_in [in, M], q_out '
                f'[out, N], a [{anchors}, M, R] and b [{anchors}, R, N], widths equal in all layers'
            )


def _check_arrays(root: pathlib.Path, header: Header, state: MappingState) -> None:
    """Checks the arrays that the method keeps beside anchors and bases."""
    wanted = method_named(header.method).layout
    depths = {p: shape.layers for p, shape in header.query_shapes.items()}
    known = {'A': len(header.tasks), 'P': len(state.tensors), 'X': sum(depths.values())}
    layout.check(root / 'arrays.safetensors', state.arrays, wanted.arrays, known)
    widths: dict[str, layout.Sizes] = {}
    for index, arrays in enumerate(state.per_tensor):
        projection, _ = state.tensors[index]
        shape = header.query_shapes.get(projection)
        if shape is None:
            raise InputError(f'{root / _MANIFEST}: query_shapes lacks {projection} of tensors')
        sizes = {'D': shape.layers, 'i': shape.n_in, 'o': shape.n_out, **widths.get(projection, {})}
        if state.frame:
            basis = state.frame.bases[index]
            sizes |= {'I': len(basis.q_in), 'O': len(basis.q_out)}
            sizes |= {'M': basis.q_in.shape[1], 'N': basis.q_out.shape[1]}
        if state.source_frame:
            basis = next(
                b
                for (p, _), b in zip(
                    state.source_frame.tensors, state.source_frame.bases, strict=True
                )
                if p == projection
            )
            sizes |= {'m': basis.q_in.shape[1], 'n': basis.q_out.shape[1]}
        found = layout.check(_file(root / 'tensors', index), arrays, wanted.per_tensor, sizes)
        widths[projection] = {letter: found[letter] for letter in 'IO' if letter in found}


def _read_header(path: pathlib.Path, manifest: JsonDict) -> Header:
    """Checks the fields of mapping.json that say what the mapping is."""
    method = fields.require(path, manifest, 'method', fields.TEXT)
    stored = fields.require(path, manifest, 'options', fields.OBJECT)
    names = {field.name for field in dataclasses.fields(Options)}
    if set(stored) != names:
        wrong = io.show(sorted(set(stored) ^ names)[0])
        raise InputError(f'{path}: options differ in {wrong}, expected {sorted(names)}')
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
        {
            name: _read_shape(f'{path}: {shorten(name, 60)}', name, shape)
            for name, shape in shapes.items()
        },
        fields.require(path, manifest, 'output_rank', _RANK),
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
        raise InputError(
            f'{path}: holds {io.show(sorted(arrays))}, expected {sorted(Basis._fields)}'
        )
    return Basis(**arrays)


def _file(root: pathlib.Path, index: int) -> pathlib.Path:
    """Returns where one of several parts of a kind stands."""
    return root / f'{index:04d}.safetensors'


def _files(root: pathlib.Path, parts: Sequence[Any]) -> list[pathlib.Path]:
    """Returns the files of several parts of a kind, in order."""
    return [_file(root, index) for index in range(len(parts))]
