"""Safetensors files: checked and read by the `safetensors` package, mapped, written piece by piece.

Reading maps a file into memory: its pages are the page cache's, which the system takes back at
will, not memory that the process holds. Writing is our own where the tensors do not fit into
memory together, since the package writes from a dictionary of all of them.

Format: https://github.com/huggingface/safetensors, section "Format".
"""

import json
import math
import mmap
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from lorajax.errors import InputError
from lorajax.io.atomic import atomic_file
from lorajax.io.json_files import parse_json
from lorajax.io.reading import PathLike, one_line_errors, open_file, shorten

DTYPES: dict[str, np.dtype] = {
    'F64': np.dtype(np.float64),
    'F32': np.dtype(np.float32),
    'F16': np.dtype(np.float16),
    'BF16': np.dtype(ml_dtypes.bfloat16),
    'I64': np.dtype(np.int64),
    'I32': np.dtype(np.int32),
    'I16': np.dtype(np.int16),
    'I8': np.dtype(np.int8),
    'U64': np.dtype(np.uint64),
    'U32': np.dtype(np.uint32),
    'U16': np.dtype(np.uint16),
    'U8': np.dtype(np.uint8),
    'BOOL': np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Spec(NamedTuple):
    """Dtype and shape of a tensor to be written."""

    dtype: np.dtype
    shape: tuple[int, ...]


class Entry(NamedTuple):
    """One tensor of a file: dtype, shape, and where its bytes lie."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    size: int  # bytes


def read_header(path: PathLike) -> dict[str, Entry]:
    """Returns the tensors of a file by name, in the order of their bytes.

    Raises:
      InputError: if the file cannot be read, is truncated, has bytes left over, holes or overlaps,
        names a tensor twice, has a dtype that is none of `DTYPES`, or a header that is not what
        the format says.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        _check_form(path, size)
        length = int.from_bytes(file.read(8), 'little')
        # The package lets a name that occurs twice with the same bytes pass.
        header = parse_json(file.read(length), f'{path}: header')
    header.pop('__metadata__', None)
    entries = {}
    for name, row in header.items():
        if row['dtype'] not in DTYPES:
            raise InputError(
                f'{path}: {shorten(name)} has dtype {row["dtype"]}, expected one of '
                f'{", ".join(DTYPES)}'
            )
        start, stop = row['data_offsets']
        entries[name] = Entry(
            DTYPES[row['dtype']], tuple(row['shape']), 8 + length + start, stop - start
        )
    return dict(sorted(entries.items(), key=lambda item: item[1].start))


def _check_form(path: PathLike, size: int) -> None:
    """Lets the package check a file's header against its size; reads no tensor."""
    with one_line_errors(path):
        try:
            with safe_open(path, framework='numpy'):
                pass
        except SafetensorError as error:
            reason = str(error).removeprefix('Error while deserializing header: ')
            raise InputError(
                f'{path}: truncated, corrupt or not safetensors: {shorten(reason, 160)} '
                f'({size} bytes)'
            ) from None


def read(path: PathLike) -> dict[str, np.ndarray]:
    """Returns all tensors of a file by name, in the order of their bytes, in memory of their own.

    Raises:
      InputError: as `read_header`.
    """
    entries = read_header(path)
    with one_line_errors(path), safe_open(path, framework='numpy') as file:
        return {name: file.get_tensor(name) for name in entries}


def map_tensors(path: PathLike) -> dict[str, np.ndarray]:
    """Returns all tensors of a file by name, in the order of their bytes, as views of the file.

    Nothing is read before it is used, and nothing is held after: what is looked at stays in the
    page cache. The views cannot be written to, and keep the file open.

    Raises:
      InputError: as `read_header`.
    """
    entries = read_header(path)
    with open_file(path) as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {name: _view(whole, entry) for name, entry in entries.items()}


def _view(whole: mmap.mmap, entry: Entry) -> np.ndarray:
    """Returns one tensor of a mapped file; a copy if it does not start at a whole element."""
    dtype, shape, start, size = entry
    if start % dtype.itemsize:
        data = np.frombuffer(whole[start : start + size], dtype)
    else:
        data = np.frombuffer(whole, dtype, size // dtype.itemsize, start)
    return data.reshape(shape)


def write(path: PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file, whole or not at all; equal tensors give equal bytes."""
    specs = {name: Spec(tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    write_each(path, specs, tensors.__getitem__)


def write_each(
    path: PathLike, specs: Mapping[str, Spec], produce: Callable[[str], np.ndarray]
) -> None:
    """Writes a file whose tensors are made one after the other, whole or not at all.

    Args:
      path: the file.
      specs: dtype and shape by name.
      produce: returns the tensor of a name; called once each.

    Raises:
      ValueError: if a tensor is not as its spec says.
    """
    # Wide dtypes first, as the package writes them, so that every tensor is aligned.
    names = sorted(specs, key=lambda name: (-specs[name].dtype.itemsize, name))
    header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
    end = 0
    for name in names:
        dtype, shape = specs[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        row = {'dtype': _NAMES[dtype], 'shape': list(shape), 'data_offsets': [start, end]}
        header[name] = row
    with atomic_file(path) as temporary, open(temporary, 'wb') as file:
        file.write(_encode(header))
        for name in names:
            tensor = produce(name)
            if Spec(tensor.dtype, tensor.shape) != specs[name]:
                raise ValueError(f'{name} is {tensor.dtype}{tensor.shape}, not {specs[name]}')
            data = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
            file.write(memoryview(data))  # type: ignore[arg-type]


def _encode(header: dict[str, Any]) -> bytes:
    """Returns the length and the text of a header, filled with blanks to whole words."""
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    return len(text).to_bytes(8, 'little') + text
