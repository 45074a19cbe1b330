"""Safetensors files, read and written piece by piece, checked, never mapped into memory.

The safetensors package maps a whole file, so the pages of a 5 GB shard count as resident
beside the arrays that they are copied into, and it writes from a copy of all tensors. Here the
peak is what the caller keeps plus one piece.

Files written here carry a CRC-32 of their data among the metadata, which other readers ignore:
a bit that flips later is noticed. Files of others have none and are checked in form alone.

Format: https://github.com/huggingface/safetensors, section "Format".
"""

import concurrent.futures
import json
import math
import os
import pathlib
import queue
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import ml_dtypes
import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import crc32

DTYPES: dict[str, np.dtype] = {
    'F64': np.dtype(np.float64),
    'F32': np.dtype(np.float32),
    'F16': np.dtype(np.float16),
    'BF16': np.dtype(ml_dtypes.bfloat16),
    'I64': np.dtype(np.int64),
    'I32': np.dtype(np.int32),
    'I8': np.dtype(np.int8),
    'U8': np.dtype(np.uint8),
    'BOOL': np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_HEADER = 100_000_000  # bytes, the format's own limit
_CHECKSUM = 'lorajax_crc32'  # metadata key: CRC-32 of the data section, eight hex digits


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


def _reject_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Builds a dict from JSON pairs; a name that occurs twice is an error."""
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f'{next(n for n in names if names.count(n) > 1)!r} occurs twice')
    return result


def read_header(path: io.PathLike) -> dict[str, Entry]:
    """Returns the tensors of a file by name.

    Raises:
      InputError: if the file is absent, truncated, has bytes left over, or its header is not
        what the format says.
    """
    return _read_header(pathlib.Path(path))[0]


def _read_header(path: pathlib.Path) -> tuple[dict[str, Entry], str | None]:
    """Returns the tensors of a file by name, and the checksum of their bytes if it has one."""
    try:
        total = path.stat().st_size
        with open(path, 'rb') as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, 'little')
            if len(prefix) < 8 or length > min(_MAX_HEADER, total - 8):
                raise InputError(
                    f'{path}: truncated or not safetensors ({total} bytes, header of {length})'
                )
            raw = file.read(length)
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from None
    try:
        header = json.loads(raw, object_pairs_hook=_reject_doubles)
        checksum = header.pop('__metadata__', {}).get(_CHECKSUM)
        entries = {}
        for name, row in header.items():
            if row['dtype'] not in DTYPES:
                raise InputError(
                    f'{path}: {name} has dtype {row["dtype"]}, expected one of {", ".join(DTYPES)}'
                )
            start, stop = row['data_offsets']
            dtype, shape = DTYPES[row['dtype']], tuple(int(n) for n in row['shape'])
            if start < 0 or stop - start != math.prod(shape) * dtype.itemsize:
                raise InputError(f'{path}: {name} has {stop - start} bytes for shape {shape}')
            entries[name] = Entry(dtype, shape, 8 + length + start, stop - start)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'{path}: header is not valid safetensors ({error})') from None
    end = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start != end:
            raise InputError(f'{path}: {name} starts at byte {entry.start}, expected {end}')
        end += entry.size
    if end != total:
        raise InputError(f'{path}: truncated or corrupt: {total} bytes, header describes {end}')
    return entries, checksum


def checksum(path: io.PathLike) -> str | None:
    """Returns the CRC-32 that a file's header states for its data; None if it states none.

    Raises:
      InputError: as `read_header`.
    """
    return _read_header(pathlib.Path(path))[1]


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
    path: io.PathLike,
    most_bytes: int,
    consume: Callable[[str, slice | None, np.ndarray], _T],
    num_threads: int | None = None,
) -> Iterator[_T]:
    """Reads a file in pieces of some rows each and yields what `consume` makes of them.

    Each piece is read, summed and consumed by one of several threads, in one go, while it lies
    in that core's cache. File reads, CRC-32 and numpy's copies all run without the interpreter's
    lock; several readers keep the disk busy where one also waits for the kernel's pages.

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
      InputError: as `read_header`; at the end, if the data does not have the file's checksum.
    """
    path = pathlib.Path(path)
    entries, checksum = _read_header(path)
    num_threads = num_threads or min(16, 2 * (os.cpu_count() or 1))
    plan = list(_plan(entries, most_bytes))
    largest = max((piece.size for piece in plan), default=0)
    buffers: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    for _ in range(num_threads):
        buffers.put(np.empty(largest, np.uint8))

    def work(piece: _Piece) -> tuple[int, _T]:
        buffer = buffers.get()
        try:
            data = buffer[: piece.size]
            _fill(file.fileno(), data, piece.start, f'{path}: truncated while reading {piece.name}')
            found = zlib.crc32(data) if checksum else 0  # type: ignore[arg-type]
            tensor = data.view(piece.dtype).reshape(piece.shape)
            return found, consume(piece.name, piece.rows, tensor)
        finally:
            buffers.put(buffer)

    total = 0
    with open(path, 'rb', buffering=0) as file:
        pool = concurrent.futures.ThreadPoolExecutor(num_threads)
        try:
            for piece, (found, result) in zip(plan, pool.map(work, plan), strict=True):
                total = crc32.combine(total, found, piece.size)
                yield result
        finally:  # an error, or a caller that wants no more
            pool.shutdown(cancel_futures=True)
    _check(path, total, checksum)


def _check(path: pathlib.Path, found: int, expected: str | None) -> None:
    """Refuses a file whose data does not have the checksum of its header, if there is one."""
    if expected and f'{found:08x}' != expected:
        raise InputError(
            f'{path}: corrupt: its data has CRC-32 {found:08x}, its header says {expected}'
        )


def _fill(descriptor: int, buffer: np.ndarray, offset: int, complaint: str) -> None:
    """Reads as many bytes as `buffer` holds, from `offset` on."""
    view: Any = memoryview(buffer)  # type: ignore[arg-type]
    while view:
        count = os.preadv(descriptor, [view], offset)
        if not count:
            raise InputError(complaint)
        view, offset = view[count:], offset + count


def verify(path: io.PathLike) -> None:
    """Reads a file that has a checksum once, to check it; does nothing for other files.

    Raises:
      InputError: as `read_pieces`.
    """
    if checksum(path):
        for _ in read_pieces(path, 1 << 20, lambda *_: None):
            pass


def read_entry(path: io.PathLike, entry: Entry) -> np.ndarray:
    """Returns one tensor of a file; the file's checksum is not checked.

    Args:
      path: the file.
      entry: the tensor's row of `read_header`.
    """
    data = np.empty(entry.size, np.uint8)
    with open(path, 'rb', buffering=0) as file:
        complaint = f'{path}: truncated while reading byte {entry.start}'
        _fill(file.fileno(), data, entry.start, complaint)
    return data.view(entry.dtype).reshape(entry.shape)


def iterate(path: io.PathLike) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors of a file in the order of their bytes, one in memory at a time.

    Raises:
      InputError: as `read_pieces`.
    """
    path = pathlib.Path(path)
    entries, checksum = _read_header(path)
    found = 0
    with open(path, 'rb', buffering=0) as file:
        for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
            data = np.empty(entry.size, np.uint8)
            _fill(file.fileno(), data, entry.start, f'{path}: truncated while reading {name}')
            found = zlib.crc32(data, found)  # type: ignore[arg-type]
            yield name, data.view(entry.dtype).reshape(entry.shape)
    _check(path, found, checksum)


def read(path: io.PathLike) -> dict[str, np.ndarray]:
    """Returns all tensors of a file by name."""
    return dict(iterate(path))


def write(path: io.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file, whole or not at all; equal tensors give equal bytes."""
    specs = {name: Spec(tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    write_each(path, specs, tensors.__getitem__)


def write_each(
    path: io.PathLike, specs: Mapping[str, Spec], produce: Callable[[str], np.ndarray]
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
    header: dict[str, Any] = {'__metadata__': {'format': 'pt', _CHECKSUM: '0' * 8}}
    end = 0
    for name in names:
        dtype, shape = specs[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        row = {'dtype': _NAMES[dtype], 'shape': list(shape), 'data_offsets': [start, end]}
        header[name] = row
    checksum = 0
    with io.atomic_file(path) as temporary, open(temporary, 'wb') as file:
        file.write(_encode(header))
        for name in names:
            tensor = produce(name)
            if Spec(tensor.dtype, tensor.shape) != specs[name]:
                raise ValueError(f'{name} is {tensor.dtype}{tensor.shape}, not {specs[name]}')
            data = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
            file.write(memoryview(data))  # type: ignore[arg-type]
            checksum = zlib.crc32(data, checksum)  # type: ignore[arg-type]
        header['__metadata__'][_CHECKSUM] = f'{checksum:08x}'
        file.seek(0)
        file.write(_encode(header))


def _encode(header: dict[str, Any]) -> bytes:
    """Returns the length and the text of a header, filled with blanks to whole words."""
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    return len(text).to_bytes(8, 'little') + text
