"""Memory and seconds of loading a full 3B-shaped checkpoint: `python -m benchmarks.loading NAME`.

Writes the bfloat16 checkpoint in shards to a temporary directory, drops it from the page cache,
reads it once raw (the disk's own speed), drops it again, and loads it in a fresh process that
states its peak resident memory (VmHWM) before and after. Needs about 7 GB of disk.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from tests.models import shapes

CHILD = """
import json, re, sys, time
import jax, numpy as np
from lorajax import models
jax.block_until_ready(jax.numpy.zeros(8) + 1)
peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024
before, start = peak(), time.monotonic()
model = models.load_model(sys.argv[1], param_dtype='bfloat16', dtype='bfloat16')
jax.block_until_ready(model.params)
seconds, after = time.monotonic() - start, peak()
start = time.monotonic()
logits = np.asarray(model.logits(np.arange(3, 35, dtype=np.int32)[None]))
print(json.dumps(dict(
    baseline=before, peak=after, seconds=seconds, forward=time.monotonic() - start,
    finite=bool(np.isfinite(logits).all()),
    params=sum(leaf.nbytes for leaf in jax.tree.leaves(model.params)),
)))
"""


def drop_from_cache(files: list[pathlib.Path]) -> None:
    """Makes the kernel forget the pages of files."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_raw(files: list[pathlib.Path]) -> float:
    """Returns the seconds that plain sequential reading takes."""
    buffer = bytearray(1 << 24)
    start = time.monotonic()
    for path in files:
        with open(path, 'rb', buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.monotonic() - start


def main() -> None:
    """Prints the figures of one model."""
    (name,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        shapes.write(directory, name)
        files = sorted(pathlib.Path(directory).glob('*.safetensors'))
        size = sum(path.stat().st_size for path in files)
        drop_from_cache(files)
        raw = read_raw(files)
        drop_from_cache(files)
        done = subprocess.run(
            [sys.executable, '-c', CHILD, directory], capture_output=True, text=True, check=True
        )
    row = json.loads(done.stdout)
    extra = row['peak'] - row['baseline']
    print(
        f'{name}: {len(files)} shards, {size / 1e9:.2f} GB; raw read {raw:.1f} s = '
        f'{size / raw / 1e9:.2f} GB/s; load {row["seconds"]:.1f} s = '
        f'{size / row["seconds"] / 1e9:.2f} GB/s; peak {extra / 1e9:.2f} GB above a baseline of '
        f'{row["baseline"] / 1e9:.2f} GB = {extra / row["params"]:.3f} x parameters; forward of '
        f'32 tokens {row["forward"]:.1f} s with compilation, finite: {row["finite"]}'
    )


if __name__ == '__main__':
    main()
