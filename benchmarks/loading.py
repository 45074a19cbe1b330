"""Loading whole checkpoints, beside transformers: `python -m benchmarks.loading [NAME ...]`.

Writes a random bfloat16 checkpoint of each named size to a temporary directory (6.2 GB for a 3B
model; `--directory=DIR` takes one that is there), reads its files once, so that they lie in the
page cache, and then loads it --repeats times with each side in turn, each in a process of its own:

- ours: `load_model`, until all weights are on the device and known to be finite;
- transformers: `from_pretrained`, which maps the files, and then a sum over every weight, which is
  when they are read.

Memory is what a process holds: the pages marked Anonymous in /proc/self/smaps_rollup, looked at
every 50 ms, above what it held before. Pages of mapped files are the page cache's.

CPU seconds are the program's own and the system's. transformers keeps the mapped files as its
weights, ours copies them into memory of its own, and where a virtual machine's host must first
find that memory, the system's share tells: 1.8 s a GB were seen, against 0.3 for the copy.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from tests.models import shapes

NAMES = ('Qwen2.5-3B', 'Llama-3.2-3B')
METER = """
import json, os, pathlib, re, sys, threading, time

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
    total = sum(float(value.sum()) for value in model.parameters())
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


def measure(directory: str, name: str, dtype: str, repeats: int) -> None:
    """Prints a row for each round."""
    for path in sorted(pathlib.Path(directory).glob('*.safetensors')):
        with open(path, 'rb', buffering=0) as file:
            while file.read(1 << 24):
                pass
    for _ in range(repeats):
        ours, theirs = child(OURS, directory, dtype), child(THEIRS, directory, dtype)
        whole = theirs['load'] + theirs['touch']
        memory = [f'{row["extra"] / row["params"]:.2f}' for row in (ours, theirs)]
        print(
            f'| {name} | {ours["load"]:.1f} | {theirs["load"]:.1f} + {theirs["touch"]:.1f} | '
            f'{ours["load"] / whole:.2f} | {ours["user"]:.1f} + {ours["system"]:.1f} | '
            f'{theirs["user"]:.1f} + {theirs["system"]:.1f} | '
            f'{" | ".join(memory)} |',
            flush=True,
        )


def main() -> None:
    """Measures the named models."""
    parser = argparse.ArgumentParser()
    parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(shapes.REAL))
    parser.add_argument('--directory')
    parser.add_argument('--dtype', default='bfloat16', choices=['bfloat16', 'float32'])
    parser.add_argument('--repeats', type=int, default=3)
    arguments = parser.parse_args()
    print(f'load averages {os.getloadavg()}')
    print(
        '| model | ours, s | transformers, load + touch, s | ratio | ours, CPU s | '
        'transformers, CPU s | ours, anonymous / parameters | transformers |\n'
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
        flush=True,
    )
    for name in arguments.names or NAMES:
        with tempfile.TemporaryDirectory() as temporary:
            directory = arguments.directory or temporary
            if not arguments.directory:
                shapes.write(directory, name)
            measure(directory, name, arguments.dtype, arguments.repeats)


if __name__ == '__main__':
    main()
