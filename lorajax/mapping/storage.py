"""Fitted mappings on disk: safetensors and JSON in one directory, written whole or not at all.

  mapping.json                 format, method, options, shapes, diagnostics, SHA-256 of each file
  arrays.safetensors           small arrays
  {source,target}/0000.safetensors    one anchor each, in the order of the tasks in mapping.json
  {frame,source_frame}/0000.safetensors    bases of one tensor each
  tensors/0000.safetensors     what else a method keeps for each target tensor

Anchors and bases are written and read one file at a time, and anchors stay on disk after
loading: their leaves are read a layer at a time.
"""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.state import Fitted
from lorajax.mapping.subspace import Basis, Frame
from lorajax.types import Array, JsonDict

FORMAT = 1
_MANIFEST = 'mapping.json'
_DTYPES = {'float32': np.dtype(np.float32), 'bfloat16': np.dtype(ml_dtypes.bfloat16)}


def save(directory: io.PathLike, header: JsonDict, fitted: Fitted, dtype: str = 'float32') -> None:
    """Writes a fitted mapping; replaces what is at `directory` as a whole.

    Args:
      directory: to make.
      header: JSON-able facts that `load` shall return, such as the method's name.
      fitted: the mapping.
      dtype: of anchors and bases on disk, 'float32' or 'bfloat16'.

    Raises:
      InputError: on another dtype.
    """
    if dtype not in _DTYPES:
        raise InputError(f'dtype={dtype!r}: expected one of {list(_DTYPES)}')
    with io.atomic_directory(directory) as root:
        tensor_files.write(root / 'arrays.safetensors', fitted.arrays)
        manifest: JsonDict = {
            'format': FORMAT,
            **header,
            'tensors': fitted.tensors,
            'info': fitted.info,
        }
        for part in ('source', 'target'):
            anchors = getattr(fitted, part)
            if anchors is not None:
                manifest[part] = list(anchors.tasks)
                _save_anchors(root / part, anchors, _DTYPES[dtype])
        if fitted.per_tensor:
            _save_each(root / 'tensors', fitted.per_tensor)
        for part in ('frame', 'source_frame'):
            frame = getattr(fitted, part)
            if frame is not None:
                manifest[f'{part}_tensors'] = frame.tensors
                _save_each(root / part, [basis._asdict() for basis in frame.bases], _DTYPES[dtype])
        files = sorted(path for path in root.rglob('*') if path.is_file())
        manifest['sha256'] = {str(path.relative_to(root)): _digest(path) for path in files}
        io.write_json(root / _MANIFEST, manifest)


def load(directory: io.PathLike) -> tuple[JsonDict, Fitted]:
    """Reads what `save` wrote.

    Returns:
      The header given to `save`, and the mapping.

    Raises:
      InputError: if the directory is no mapping, of another format, or a file is missing or
        differs from what was written.
    """
    root = pathlib.Path(directory)
    manifest = io.read_json(root / _MANIFEST)
    found = manifest.get('format') if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise InputError(f'{root / _MANIFEST}: expected mapping format {FORMAT}, got {found!r}')
    for name, digest in manifest.pop('sha256').items():
        path = root / name
        if not path.is_file():
            raise InputError(f'{path}: missing, expected because {_MANIFEST} lists it')
        if _digest(path) != digest:
            raise InputError(f'{path}: SHA-256 differs from {_MANIFEST}; the file is damaged')
    parts: dict[str, Any] = {
        part: _load_anchors(root / part, manifest.pop(part), part)
        for part in ('source', 'target')
        if part in manifest
    }
    tensors = [(projection, layer) for projection, layer in manifest.pop('tensors')]
    for part in ('frame', 'source_frame'):
        if f'{part}_tensors' in manifest:
            named = [(projection, layer) for projection, layer in manifest.pop(f'{part}_tensors')]
            bases = [Basis(**arrays) for arrays in _load_each(root / part, len(named))]
            parts[part] = Frame(named, bases)
    if (root / 'tensors').exists():
        parts['per_tensor'] = _load_each(root / 'tensors', len(tensors))
    arrays = tensor_files.read(root / 'arrays.safetensors')
    return manifest, Fitted(tensors, arrays, manifest.pop('info'), **parts)


def _save_anchors(root: pathlib.Path, anchors: Anchors, dtype: np.dtype) -> None:
    """Writes one file per anchor."""
    root.mkdir()
    for index, tree in enumerate(anchors.trees.values()):
        leaves = {
            f'{projection}.{key}': np.asarray(leaf[:], dtype)
            for projection, factors in tree['layers'].items()
            for key, leaf in factors.items()
        }
        tensor_files.write(root / f'{index:04d}.safetensors', leaves)


def _load_anchors(root: pathlib.Path, tasks: list[str], side: str) -> Anchors:
    """Opens one file per anchor."""
    adapters = {}
    for index, task in enumerate(tasks):
        path = root / f'{index:04d}.safetensors'
        layers: dict[str, JsonDict] = {}
        for name, entry in tensor_files.read_header(path).items():
            projection, key = name.split('.')
            leaf = np.memmap(path, entry.dtype, 'r', entry.start, entry.shape)
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
        tensor_files.write(root / f'{index:04d}.safetensors', on_host)


def _load_each(root: pathlib.Path, count: int) -> list[dict[str, np.ndarray]]:
    """Reads one file per tensor."""
    return [tensor_files.read(root / f'{index:04d}.safetensors') for index in range(count)]


def _digest(path: pathlib.Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
