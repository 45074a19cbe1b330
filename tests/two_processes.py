"""What one of several processes does: `python -m tests.two_processes PORT COUNT INDEX`.

A process of its own, as JAX joins others once. The first prints JSON: what was agreed on, and how
far a training on the devices of all is from one on a device of its own. Then the last kills
itself, and the others end with the status that says so.
"""

import dataclasses
import json
import os
import signal
import sys

import jax
import numpy as np

from lorajax import models, processes, progress, sharding
from lorajax.errors import ArgumentError, Interrupted
from lorajax.models import presets, step
from lorajax.models.hf import checkpoint
from lorajax.models.placement import param_shardings
from lorajax.training import train_adapters
from tests.training.examples import SMOOTH, make_examples, relative_distance

TASKS = {'a': make_examples(1, 3), 'b': make_examples(2, 4)}
SHAPE = dataclasses.replace(presets.LLAMA3_TINY, vocab_size=96, num_layers=1)


def train(mesh):
    """Returns the adapters of a training on a mesh."""
    model = models.random_model(SHAPE, jax.random.key(0), mesh=mesh)
    where = param_shardings(mesh, SHAPE)
    flat = checkpoint.flatten(model.params)
    placed = {path: processes.place(np.asarray(leaf), where[path]) for path, leaf in flat.items()}
    model = dataclasses.replace(model, params=checkpoint.unflatten(placed))
    step.pays(model.params)  # asks no device of another process
    config = dataclasses.replace(SMOOTH, num_epochs=1, targets=('k_proj', 'down_proj'))
    return train_adapters(model, TASKS, config, pad_id=0)


def refuse():
    raise ArgumentError('mesh', (1, 2), 'is refused')


def main():
    port, count, index = map(int, sys.argv[1:])
    processes.join(f'127.0.0.1:{port}', count, index, heartbeat_seconds=10)
    assert processes.is_joined() and processes.is_first() == (index == 0)
    said = {'agreed': processes.on_first(lambda: ['of', index])}
    try:
        processes.on_first(refuse)
    except ArgumentError as error:
        said['refused'] = str(error)
    said['first'] = int(processes.from_first(np.int32(index + 7)))
    rows = np.arange(4 * count, dtype=np.int32).reshape(-1, 2)
    mesh = sharding.make_mesh((count, 1, 1))
    placed = processes.place(rows, sharding.sharding(mesh, 'batch', None))
    assert not placed.is_fully_addressable
    np.testing.assert_array_equal(processes.to_host(placed), rows)
    shared = train(mesh)
    alone = train(sharding.make_mesh((1, 1, 1), jax.local_devices()[:1]))
    said['distance'] = max(relative_distance(shared[task], alone[task]) for task in TASKS)
    try:
        with progress.Progress('work', 1) as work:  # a signal to one of them is heard by all
            if index == count - 1:
                progress.interrupt(Interrupted(signal.SIGTERM))
            assert not work.is_interrupted
            progress.meet()
            work.update()
    except Interrupted as error:
        said['status'] = error.status
    print(json.dumps(said), flush=True)
    processes._state['is_end_agreed'] = False  # the end that comes now is not
    if index == count - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        processes.on_first(lambda: None)
    except (RuntimeError, ValueError) as error:
        assert processes.is_loss(error), error
        processes.leave(processes.LOST)


if __name__ == '__main__':
    main()
