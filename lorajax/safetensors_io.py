"""Reads safetensors files tensor by tensor, checked, without mapping them into memory.

The safetensors package maps a whole file, so the pages of a 5 GB shard count as resident
beside the arrays that they are copied into. Reading each tensor into its own buffer keeps
the peak at the parameters' bytes plus one tensor. Writing uses the package.

Format: https://github.com/huggingface/safetensors, section "Format".
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from lorajax import workdir
from lorajax.errors import InputError

DTYPES: dict[str, np.dtype] = {
    'F64': np.dtype(np.float64),
    'F32': np.dtype(np.float32),
    'F16': np.dtype(np.float16),
    'BF16': np.dtype(ml_dtypes.bfloat16),
    'I64': np.dtype(np.int64),
    'I32': np.dtype(np.int32),
    'U8': np.dtype(np.uint8),
    'BOOL': np.dtype(np.bool_),
}
_MAX_HEADER = 100_000_000  # bytes, the format's own limit


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


def read_header(path: workdir.PathLike) -> dict[str, Entry]:
    """Returns the tensors of a file by name.

    Raises:
      InputError: if the file is absent, truncated, has bytes left over, or its header is not
        what the format says.
    """
    path = pathlib.Path(path)
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
        entries = {}
        for name, row in header.items():
            if name == '__metadata__':
                continue
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
    return entries


def iterate(path: workdir.PathLike) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors of a file in the order of their bytes, one in memory at a time."""
    entries = sorted(read_header(path).items(), key=lambda item: item[1].start)
    with open(path, 'rb', buffering=0) as file:
        for name, entry in entries:
            buffer = np.empty(entry.shape, entry.dtype)
            view: Any = memoryview(buffer.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
            file.seek(entry.start)
            done = 0
            while done < entry.size:
                count = file.readinto(view[done:])
                if not count:
                    raise InputError(f'{path}: truncated while reading {name}')
                done += count
            yield name, buffer


def read(path: workdir.PathLike) -> dict[str, np.ndarray]:
    """Returns all tensors of a file by name."""
    return dict(iterate(path))


def write(path: workdir.PathLike, tensors: dict[str, np.ndarray]) -> None:
    """Writes a file, whole or not at all; equal tensors give equal bytes."""
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    with workdir.atomic_file(path) as temporary:
        save_file(ordered, os.fspath(temporary), metadata={'format': 'pt'})
        temporary.chmod(0o644)  # the package makes it private to the user
