"""Time and memory of mappings at 3B size: `python -m benchmarks.mapping_3b --workdir=DIR`.

Random adapters of the shapes of Qwen2.5-3B and Llama-3.2-3B, rank 16, seven projections: 16
anchors and 6 held-outs, 4.2 GB in files of DIR. Every method runs in a process of its own, and
`seed`, the six of the seed, together in one; they read the anchors as memory maps, and
`anonymous` is the peak of memory that is not such a map. The last row is scikit-learn's
KernelRidge on the same arrays, flattened: about 11 GB.
"""

import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from lorajax import mapping
from lorajax.types import Adapter

# Projection -> (input, output) width; config.json of Qwen2.5-3B and Llama-3.2-3B.
SHAPES = {
    'source': (
        36,
        {
            'q_proj': (2048, 2048), 'k_proj': (2048, 256), 'v_proj': (2048, 256),
            'o_proj': (2048, 2048), 'gate_proj': (2048, 11008), 'up_proj': (2048, 11008),
            'down_proj': (11008, 2048),
        },
    ),
    'target': (
        28,
        {
            'q_proj': (3072, 3072), 'k_proj': (3072, 1024), 'v_proj': (3072, 1024),
            'o_proj': (3072, 3072), 'gate_proj': (3072, 8192), 'up_proj': (3072, 8192),
            'down_proj': (8192, 3072),
        },
    ),
}  # fmt: skip
ANCHORS, HELDOUTS, RANK = 16, 6, 16
SEED_METHODS = (
    'mean', 'global_ridge', 'pertensor_ridge', 'topk8_global_ridge', 'topk8_pertensor_ridge',
    'pertensor_mlp',
)  # fmt: skip
KERNEL_RIDGE, SEED = 'scikit-learn', 'seed'


def make(root: pathlib.Path) -> None:
    """Writes the adapters, one file per factor of a projection; keeps what is there."""
    root.mkdir(parents=True, exist_ok=True)
    for side, (layers, widths) in SHAPES.items():
        for task in range(ANCHORS + (HELDOUTS if side == 'source' else 0)):
            for index, (projection, (n_in, n_out)) in enumerate(widths.items()):
                rng = np.random.default_rng([task, index, side == 'source'])
                for key, shape in (('a', (n_in, RANK)), ('b', (RANK, n_out))):
                    path = root / f'{side}-{task}-{projection}-{key}.npy'
                    if not path.exists():
                        values = rng.standard_normal((layers, *shape), np.float32)
                        np.save(path.with_suffix('.part.npy'), 0.01 * values)
                        path.with_suffix('.part.npy').rename(path)


def load(root: pathlib.Path, side: str, task: int) -> Adapter:
    """Opens an adapter as memory maps."""
    layers = {
        projection: {
            key: np.load(root / f'{side}-{task}-{projection}-{key}.npy', mmap_mode='r')
            for key in 'ab'
        }
        for projection in SHAPES[side][1]
    }
    return {'layers': layers}


def _status(field: str) -> float:
    """Returns a field of /proc/self/status in GB."""
    for line in pathlib.Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field + ':'):
            return int(line.split()[1]) * 1024 / 1e9
    raise ValueError(f'{field}: not in /proc/self/status')


class Watch:
    """Samples the process's anonymous memory until it is left."""

    def __enter__(self) -> 'Watch':
        self.peak, self._is_over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._is_over.wait(0.02):
            self.peak = max(self.peak, _status('RssAnon'))

    def __exit__(self, *_: Any) -> None:
        self._is_over.set()
        self._thread.join()


def run_mappings(root: pathlib.Path, names: Sequence[str]) -> None:
    """Fits each on the same anchors and predicts the held-outs."""
    source, target = (
        mapping.Anchors({f't{t:02d}': load(root, side, t) for t in range(ANCHORS)}, side)
        for side in SHAPES
    )
    queries = mapping.Queries(
        {f't{t:02d}': load(root, 'source', t) for t in range(ANCHORS, ANCHORS + HELDOUTS)}
    )
    for name in names:
        mapping.fit(name, source, target).explain_many(queries)


def run_kernel_ridge(root: pathlib.Path) -> None:
    """The same as `global_ridge` by scikit-learn, on rows of flattened factors."""
    from sklearn.kernel_ridge import KernelRidge

    def rows(side: str, tasks: range) -> np.ndarray:
        trees = [load(root, side, t)['layers'] for t in tasks]
        count = sum(f.size for entry in trees[0].values() for f in entry.values())
        matrix = np.empty((len(trees), count), np.float32)
        for row, tree in zip(matrix, trees, strict=True):
            start = 0
            for entry in tree.values():
                for factor in entry.values():
                    row[start : start + factor.size] = factor.ravel()
                    start += factor.size
        return matrix

    model = KernelRidge(alpha=1.0).fit(rows('source', range(ANCHORS)), rows('target', range(16)))
    for task in range(ANCHORS, ANCHORS + HELDOUTS):
        model.predict(rows('source', range(task, task + 1)))


def one(root: pathlib.Path, name: str) -> None:
    """Runs one row of the table and prints it."""
    start, cpu = time.monotonic(), time.process_time()
    with Watch() as watch:
        if name == KERNEL_RIDGE:
            run_kernel_ridge(root)
        else:
            run_mappings(root, SEED_METHODS if name == SEED else [name])
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    print(f'| {name} | {seconds:.1f} | {cpu:.1f} | {watch.peak:.2f} | {_status("VmHWM"):.2f} |')


def main(argv: Sequence[str]) -> None:
    """Makes the adapters and runs every row in a process of its own."""
    del argv
    args = flags.FLAGS
    root = pathlib.Path(args.workdir)
    if args.one:
        one(root, args.one)
        return
    make(root)
    print('| method | s, fit and 6 held-outs | CPU s | anonymous GB | VmHWM GB |')
    print('| --- | ---: | ---: | ---: | ---: |', flush=True)
    for name in args.methods:
        command = [sys.executable, '-m', 'benchmarks.mapping_3b', f'--workdir={root}']
        subprocess.run([*command, f'--one={name}'], check=True)


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where the adapters go, 4.2 GB', required=True)
    default = [SEED, *SEED_METHODS, 'delta_ridge', 'matched_ridge', 'matched_scaled', KERNEL_RIDGE]
    flags.DEFINE_list(
        'methods', default, f'methods, {SEED} for its six in one process, or {KERNEL_RIDGE}'
    )
    flags.DEFINE_string('one', None, 'run this row here')
    app.run(main)
