"""Largest differences to transformers and peft at real layer shapes, in float32.

`python -m benchmarks.real_shapes [--layers=2] [--vocab=1024] [--window=8] NAME ...`: random
bfloat16-stored checkpoints of the named sizes of `tests/models/shapes.py`; `--layers=all` and
`--vocab=all` keep the model's own. Sliding windows are cut to 8 tokens, so that they bite within
the 24 that are compared; `--window=all` keeps them. Torch and the port run one after the other in
processes of their own, so that only one float32 copy of the weights is in memory (13 GB for a whole
3B model). Needs the [test] extra. Prints a Markdown table, then each side's peak memory and
seconds.

`--directory=DIR` compares on a checkpoint of one size that is there already.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import jax.numpy as jnp
import numpy as np

from lorajax import models
from lorajax.models import config as config_lib
from tests.models import compare, shapes

HALF = 'bfloat16 against float32, logits'


def torch_side(directory: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns what transformers and peft compute."""
    return compare.expect(directory, config_lib.read(directory))


def port_side(directory: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns what the port computes, and under `HALF` its logits in bfloat16."""
    model = models.load_model(str(directory))
    result = compare.compute(model)
    half = compare.compute(model, jnp.bfloat16, (compare.NEAR,))
    return {**result, HALF: half['logits, padded left and right']}


SIDES = {'torch': torch_side, 'port': port_side}


def run_side(side: str, directory: pathlib.Path) -> tuple[dict[str, np.ndarray], str]:
    """Runs one side in a process of its own; returns its arrays, and its memory and seconds."""
    with tempfile.TemporaryDirectory() as temporary:
        path = pathlib.Path(temporary, 'arrays.npz')
        command = [sys.executable, '-m', 'benchmarks.real_shapes', f'--side={side}']
        start = time.monotonic()
        done = subprocess.run(
            [*command, f'--directory={directory}', f'--output={path}'],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        seconds = time.monotonic() - start
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    return arrays, f'{side} {float(done.stdout):.1f} GB, {seconds:.0f} s'


def compare_sides(directory: pathlib.Path) -> tuple[dict[str, float], list[str]]:
    """Returns the largest differences by item, and lines on how they came about."""
    expected, line = run_side('torch', directory)
    lines = [line]
    actual, line = run_side('port', directory)
    lines.append(line)
    half = actual.pop(HALF)
    errors = compare.worst(compare.differences(actual, expected))
    logits = actual['logits, padded left and right']
    errors[HALF] = float(np.abs(half - logits).max() / np.abs(logits).max())
    return errors, lines


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(shapes.REAL))
    parser.add_argument('--layers', default='2')
    parser.add_argument('--vocab', default='1024')
    parser.add_argument('--window', default='8')
    parser.add_argument('--directory', type=pathlib.Path)
    parser.add_argument('--side', choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument('--output', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        np.savez(arguments.output, **SIDES[arguments.side](arguments.directory))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
        return
    if not arguments.names or not set(arguments.names) <= set(shapes.REAL):
        parser.error(f'NAME is {arguments.names}, expected some of {", ".join(shapes.REAL)}')
    overrides = {}
    if arguments.layers != 'all':
        overrides['num_hidden_layers'] = int(arguments.layers)
    if arguments.vocab != 'all':
        overrides['vocab_size'] = int(arguments.vocab)
    header, notes = None, []
    for name in arguments.names:
        with tempfile.TemporaryDirectory() as temporary:
            directory = arguments.directory
            if not directory:
                directory = pathlib.Path(temporary)
                cut = {}
                if arguments.window != 'all' and shapes.REAL[name].get('sliding_window'):
                    cut['sliding_window'] = int(arguments.window)
                shapes.write(directory, name, **overrides, **cut)
            errors, lines = compare_sides(directory)
        notes += [f'{name}: {line}' for line in lines]
        if header is None:
            header = list(errors)
            print('| shape |', ' | '.join(header), '|')
            print('| --- |', ' | '.join(['---:'] * len(header)), '|')
        print(f'| {name} |', ' | '.join(f'{errors[item]:.1e}' for item in header), '|', flush=True)
    print('\n'.join(notes))


if __name__ == '__main__':
    main()
