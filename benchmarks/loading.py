"""Loading whole checkpoints, beside transformers: `python -m benchmarks.loading [NAME ...]`.

Writes a random bfloat16 checkpoint of each named size to a temporary directory (6.2 GB for a 3B
model; `--directory=DIR` takes one that is there), reads its files once, so that they lie in the
page cache, and then loads it --repeats times with each side in turn, each in a process of its own:

- ours: `load_model`, until all weights are on the device and known to be finite;
- transformers: `from_pretrained`, which maps the files, and then a sum over every weight, which is
  when they are read; they stay pages of the files;
- transformers, copied: `from_pretrained`, and then a clone of every weight, so that they lie in
  memory of the process's own, as ours do.

Each process first touches and frees as many bytes as the model has, unless `--fresh` is given. A
virtual machine's host finds memory when it is touched first, which costs 1 to 2 s of CPU a GB,
and takes it back some seconds after it was freed: without this step the table would show the host.

Memory is what a process holds: the pages marked Anonymous in /proc/self/smaps_rollup, looked at
every 50 ms, above what it held before. Pages of mapped files are the page cache's.

CPU seconds are the program's own and the system's.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks import timing
from tests.models import shapes

NAMES = ('Qwen2.5-3B', 'Llama-3.2-3B')
METER = """
import json, mmap, os, pathlib, re, sys, threading, time

def recycle(size):
    with mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for start in range(0, size, 1 << 24):
            memory.write(bytes(min(1 << 24, size - start)))

recycle(int(sys.argv[3]))

def anonymous():
    text = pathlib.Path('/proc/self/smaps_rollup').read_text()
    return int(re.search(r'Anonymous:\\s+(\\d+)', text)[1]) * 1024

peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.05):
        peak = max(peak, anonymous())
def report(started, baseline, params, **seconds):
    done.set()
    watcher.join()
    extra = max(peak, anonymous()) - baseline
    now = os.times()
    print(json.dumps({'params': params, 'extra': extra, 'user': now.user - started.user,
                      'system': now.system - started.system, **seconds}))
watcher = threading.Thread(target=watch)
"""
OURS = (
    METER
    + """
import jax
from lorajax import models
jax.block_until_ready(jax.numpy.zeros(8) + 1)
watcher.start()
baseline, started, start = anonymous(), os.times(), time.monotonic()
model = models.load_model(sys.argv[1], param_dtype=sys.argv[2], dtype='bfloat16')
jax.block_until_ready(model.params)
seconds = time.monotonic() - start
params = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
report(started, baseline, params, load=seconds)
"""
)
THEIRS = (
    METER
    + """
import torch, transformers
from transformers.models import llama, qwen2
llama.LlamaForCausalLM, qwen2.Qwen2ForCausalLM
watcher.start()
baseline, started, start = anonymous(), os.times(), time.monotonic()
dtype = getattr(torch, sys.argv[2])
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=dtype)
middle = time.monotonic()
with torch.no_grad():
    for value in model.parameters():
        if 'copied' in sys.argv:
            value.data = value.data.clone()
        else:
            float(value.sum())
seconds = time.monotonic() - middle
params = sum(value.nbytes for value in model.parameters())
report(started, baseline, params, load=middle - start, touch=seconds)
"""
)


def child(code: str, *arguments: str) -> dict[str, float]:
    """Runs code in a process of its own and returns the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, '-c', code, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def rounds(
    directory: str, dtype: str, repeats: int, fresh: bool = False
) -> Iterator[tuple[dict[str, float], dict[str, float], dict[str, float]]]:
    """Loads with ours, mapped and copied in turn; yields what each process says of itself."""
    files = sorted(pathlib.Path(directory).glob('*.safetensors'))
    for path in files:
        with open(path, 'rb', buffering=0) as file:
            while file.read(1 << 24):
                pass
    size = '0' if fresh else str(sum(p.stat().st_size for p in files))
    for _ in range(repeats):
        ours = child(OURS, directory, dtype, size)
        mapped = child(THEIRS, directory, dtype, size)
        yield ours, mapped, child(THEIRS, directory, dtype, size, 'copied')


def row(name: str, repetitions: int) -> timing.Row:
    """Returns the line of `benchmarks.speed`, beside transformers with every weight touched."""
    with tempfile.TemporaryDirectory() as directory:
        shapes.write(directory, name)
        taken = list(rounds(directory, 'bfloat16', repetitions))
    copied = timing.spread(
        [ours['params'] / 1e9 / (c['load'] + c['touch']) for ours, _, c in taken]
    )
    return timing.Row(
        f'loading {name} in bfloat16, files cached', 'GB/s',
        ours=[ours['params'] / 1e9 / ours['load'] for ours, _, _ in taken],
        theirs=[o['params'] / 1e9 / (m['load'] + m['touch']) for o, m, _ in taken],
        goal=timing.Goal(1.5), note=f'transformers that copies {copied}',
    )  # fmt: skip


def measure(directory: str, name: str, dtype: str, repeats: int, fresh: bool) -> None:
    """Prints a row for each round."""
    for ours, mapped, copied in rounds(directory, dtype, repeats, fresh):
        whole = [row['load'] + row['touch'] for row in (mapped, copied)]
        cells = [name, f'{ours["load"]:.2f}']
        cells += [f'{row["load"]:.2f} + {row["touch"]:.2f}' for row in (mapped, copied)]
        cells += [f'{ours["load"] / seconds:.2f}' for seconds in whole]
        cells += [f'{row["user"]:.1f} + {row["system"]:.1f}' for row in (ours, mapped, copied)]
        cells += [f'{row["extra"] / row["params"]:.2f}' for row in (ours, mapped, copied)]
        print(f'| {" | ".join(cells)} |', flush=True)


def main() -> None:
    """Measures the named models."""
    parser = argparse.ArgumentParser()
    parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(shapes.REAL))
    parser.add_argument('--directory')
    parser.add_argument('--dtype', default='bfloat16', choices=['bfloat16', 'float32'])
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--fresh', action='store_true', help='memory as the host gives it')
    arguments = parser.parse_args()
    print(f'load averages {os.getloadavg()}')
    print(
        '| model | ours, s | transformers, load + touch | load + copy | ours / touch | '
        'ours / copy | ours, CPU s | touch, CPU s | copy, CPU s | ours, anonymous / parameters | '
        'touch | copy |\n| --- |' + ' ---: |' * 11,
        flush=True,
    )
    for name in arguments.names or NAMES:
        with tempfile.TemporaryDirectory() as temporary:
            directory = arguments.directory or temporary
            if not arguments.directory:
                shapes.write(directory, name)
            measure(directory, name, arguments.dtype, arguments.repeats, arguments.fresh)


if __name__ == '__main__':
    main()
