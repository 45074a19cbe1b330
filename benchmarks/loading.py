"""Memory and seconds of loading a full 3B-shaped checkpoint: `python -m benchmarks.loading NAME`.

Writes the bfloat16 checkpoint in shards to a temporary directory (about 7 GB; `--directory=DIR`
takes one that is there), and reads it in fresh processes, in turn, --repeats times:

- raw: plain sequential reading into one small buffer, dropped from the page cache before;
- array: plain sequential reading into a new array as large as the files, dropped before. This
  is what any loader must do at least; on virtual machines the first touch of the array's memory
  can cost more than the disk;
- cold: `load_model`, dropped before; warm: the same again, from the page cache.

`load_model` is bracketed by the process's peak resident memory (VmHWM), and followed by two
forward passes of 32 tokens, the first of which compiles. `--dtype` is the parameters' dtype.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from tests.models import shapes

LOAD = """
import json, re, sys, time
import jax, numpy as np
from lorajax import models
jax.block_until_ready(jax.numpy.zeros(8) + 1)
peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024
before, start = peak(), time.monotonic()
model = models.load_model(sys.argv[1], param_dtype=sys.argv[2], dtype='bfloat16')
jax.block_until_ready(model.params)
seconds, after = time.monotonic() - start, peak()
forwards = []
for _ in range(2 if sys.argv[3] == 'forward' else 0):
    start = time.monotonic()
    logits = np.asarray(model.logits(np.arange(3, 35, dtype=np.int32)[None]))
    forwards.append(time.monotonic() - start)
    assert np.isfinite(logits).all()
params = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
print(json.dumps(dict(baseline=before, peak=after, seconds=seconds, forwards=forwards,
                      params=params)))
"""
READ = """
import json, pathlib, sys, time
import numpy as np
files = sorted(pathlib.Path(sys.argv[1]).glob('*.safetensors'))
size = sum(path.stat().st_size for path in files) if sys.argv[2] == 'array' else 1 << 24
buffer, at, start = memoryview(np.empty(size, np.uint8)), 0, time.monotonic()
for path in files:
    with open(path, 'rb', buffering=0) as file:
        while count := file.readinto(buffer[at:at + (1 << 24)]):
            at += count if sys.argv[2] == 'array' else 0
print(json.dumps(dict(seconds=time.monotonic() - start)))
"""


def drop_from_cache(files: list[pathlib.Path]) -> None:
    """Makes the kernel forget the pages of files."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def child(code: str, *arguments: str) -> dict:
    """Runs code in a process of its own and returns the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, '-c', code, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def measure(directory: str, dtype: str, repeats: int) -> None:
    """Prints the figures of one checkpoint."""
    files = sorted(pathlib.Path(directory).glob('*.safetensors'))
    size = sum(path.stat().st_size for path in files)
    print(f'{len(files)} shards, {size / 1e9:.2f} GB; load averages {os.getloadavg()}', flush=True)
    for repeat in range(repeats):
        forward = 'forward' if repeat == 0 else ''
        for kind in ('raw', 'array', 'cold', 'warm'):
            if kind != 'warm':
                drop_from_cache(files)
            if kind in ('raw', 'array'):
                row = child(READ, directory, kind)
            else:
                row = child(LOAD, directory, dtype, forward if kind == 'warm' else '')
            line = f'{kind}: {row["seconds"]:.1f} s = {size / row["seconds"] / 1e9:.2f} GB/s'
            if 'peak' in row:
                extra = row['peak'] - row['baseline']
                line += (
                    f'; peak {extra / 1e9:.2f} GB above a baseline of {row["baseline"] / 1e9:.2f} '
                    f'GB = {extra / row["params"]:.3f} x parameters'
                )
                for seconds, which in zip(row['forwards'], ('first', 'second'), strict=False):
                    line += f'; {which} forward {seconds:.1f} s'
            print(line, flush=True)


def main() -> None:
    """Measures one model."""
    parser = argparse.ArgumentParser()
    parser.add_argument('name', choices=list(shapes.REAL))
    parser.add_argument('--directory')
    parser.add_argument('--dtype', default='bfloat16')
    parser.add_argument('--repeats', type=int, default=3)
    arguments = parser.parse_args()
    start = time.monotonic()
    if arguments.directory:
        measure(arguments.directory, arguments.dtype, arguments.repeats)
        return
    with tempfile.TemporaryDirectory() as directory:
        shapes.write(directory, arguments.name)
        print(f'{arguments.name}: written in {time.monotonic() - start:.0f} s', flush=True)
        measure(directory, arguments.dtype, arguments.repeats)


if __name__ == '__main__':
    main()
