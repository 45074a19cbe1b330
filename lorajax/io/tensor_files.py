"""Safetensors files: checked and read by the `safetensors` package, mapped, written piece by piece.

Reading maps a file into memory: its pages are the page cache's, which the system takes back at
will, not memory that the process holds. Writing is our own where the tensors do not fit into
memory together, since the package writes from a dictionary of all of them.

Format: https://github.com/huggingface/safetensors, section "Format".
"""

import concurrent.futures
import json
import math
import mmap
import os
import pathlib
import queue
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

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

_T = TypeVar('_T')


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


class _Piece(NamedTuple):
    """Some rows of a tensor and where their bytes lie."""

    name: str
    rows: slice | None  # None: all of a scalar
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    size: int  # bytes


def _plan(entries: Mapping[str, Entry], most_bytes: int) -> Iterator[_Piece]:
    """Yields the pieces of a file in the order of their bytes; a row is never divided."""
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if not entry.shape or not entry.size:
            rows = slice(0, entry.shape[0]) if entry.shape else None
            yield _Piece(name, rows, *entry)
            continue
        depth = entry.shape[0]
        row_bytes = entry.size // depth
        count = max(1, most_bytes // row_bytes)
        for first in range(0, depth, count):
            rows = slice(first, min(first + count, depth))
            shape = (rows.stop - first, *entry.shape[1:])
            start, size = entry.start + first * row_bytes, shape[0] * row_bytes
            yield _Piece(name, rows, entry.dtype, shape, start, size)


def read_pieces(
    path: PathLike,
    most_bytes: int,
    consume: Callable[[str, slice | None, np.ndarray], _T],
    num_threads: int | None = None,
) -> Iterator[_T]:
    """Reads a file in pieces of some rows each and yields what `consume` makes of them.

    Each piece is read and consumed by one of several threads, in one go, while it lies in that
    core's cache. File reads and numpy's copies run without the interpreter's lock; several
    readers keep the disk busy where one also waits for the kernel's pages.

    Args:
      path: the file.
      most_bytes: size of a piece; one row is read whole even if it is larger.
      consume: called once for each piece, from any thread and in any order, with the tensor's
        name, which rows of it (None: all of a scalar), and these rows in a buffer that another
        piece overwrites afterwards.
      num_threads: how many threads; twice the cores, at most 16, if None.

    Yields:
      The results of `consume`, in the order of the file's bytes.

    Raises:
      InputError: as `read_header`.
    """
    path = pathlib.Path(path)
    entries = read_header(path)
    num_threads = num_threads or min(16, 2 * (os.cpu_count() or 1))
    plan = list(_plan(entries, most_bytes))
    largest = max((piece.size for piece in plan), default=0)
    buffers: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    for _ in range(num_threads):
        buffers.put(np.empty(largest, np.uint8))

    def work(piece: _Piece) -> _T:
        buffer = buffers.get()
        try:
            data = buffer[: piece.size]
            _fill(file.fileno(), data, piece.start, f'{path}: truncated while reading {piece.name}')
            tensor = data.view(piece.dtype).reshape(piece.shape)
            return consume(piece.name, piece.rows, tensor)
        finally:
            buffers.put(buffer)

    with open(path, 'rb', buffering=0) as file:
        pool = concurrent.futures.ThreadPoolExecutor(num_threads)
        try:
            yield from pool.map(work, plan)
        finally:  # an error, or a caller that wants no more
            pool.shutdown(cancel_futures=True)


def _fill(descriptor: int, buffer: np.ndarray, offset: int, complaint: str) -> None:
    """Reads as many bytes as `buffer` holds, from `offset` on."""
    view: Any = memoryview(buffer)  # type: ignore[arg-type]
    while view:
        count = os.preadv(descriptor, [view], offset)
        if not count:
            raise InputError(complaint)
        view, offset = view[count:], offset + count


def read_entry(path: PathLike, entry: Entry) -> np.ndarray:
    """Returns one tensor of a file.

    Args:
      path: the file.
      entry: the tensor's row of `read_header`.
    """
    data = np.empty(entry.size, np.uint8)
    with open(path, 'rb', buffering=0) as file:
        complaint = f'{path}: truncated while reading byte {entry.start}'
        _fill(file.fileno(), data, entry.start, complaint)
    return data.view(entry.dtype).reshape(entry.shape)


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
