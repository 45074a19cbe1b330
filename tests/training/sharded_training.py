"""Trains on forced host devices and prints how far each mesh is from one device.

`python -m tests.training.sharded_training`; a process of its own, as the number of devices is
fixed when JAX starts. Prints JSON: label -> [distance of adapters, distance of first losses].
"""

import dataclasses
import json
import os
import pathlib
import tempfile

# Little optimization: most of the time goes into compiling.
os.environ['XLA_FLAGS'] = ' '.join([
    '--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0',
    os.environ.get('XLA_FLAGS', ''),
])  # fmt: skip

import jax
import numpy as np

from lorajax import models, sharding
from lorajax.models import presets
from lorajax.models.hf import checkpoint
from lorajax.models.placement import param_shardings
from lorajax.training import MetricWriter, train_adapters
from tests.training.examples import SMOOTH, make_examples, relative_distance

# (data, fsdp, tensor[, adapters]), devices, batch size
CASES = {
    'all axes': ((2, 2, 2), 8, 8),
    'fsdp': ((1, 8, 1), 8, 8),
    'key/value heads replicated': ((1, 2, 4), 8, 8),  # there are two
    'data': ((8, 1, 1), 8, 8),
    'an adapter each': ((1, 1, 1, 2), 2, 8),
    'adapters and all else': ((2, 1, 2, 2), 8, 8),
    'places that are idle': ((1, 1, 1, 4), 4, 8),
    'six rows on four devices': ((2, 2, 1), 4, 6),
}
TASKS = {
    'a': make_examples(1, 10),
    'b': make_examples(2, 24),
}  # 2 and 3 steps of 8, or 2 and 4 of 6
SHAPE = dataclasses.replace(presets.LLAMA3_TINY, vocab_size=96)


def train(mesh, batch_size):
    """Returns the adapters and the losses of a training on a mesh."""
    model = models.random_model(SHAPE, jax.random.key(0), mesh=mesh)
    where = param_shardings(mesh, SHAPE)
    flat = checkpoint.flatten(model.params)
    assert set(where) == set(flat)
    placed = {path: jax.device_put(value, where[path]) for path, value in flat.items()}
    model = dataclasses.replace(model, params=checkpoint.unflatten(placed))
    config = dataclasses.replace(SMOOTH, batch_size=batch_size, num_epochs=1)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / 'metrics.jsonl'
        adapters = train_adapters(
            model, TASKS, config, pad_id=0, metrics=MetricWriter(path), metrics_every=1
        )
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[-1]['compile_count'] == rows[0]['compile_count']  # one program for all steps
    return adapters, np.array([rows[0]['loss'], rows[1]['loss']])


def main():
    distances = {}
    alone = {
        size: train(sharding.make_mesh((1, 1, 1), jax.devices()[:1]), size)
        for size in sorted({size for _, _, size in CASES.values()})
    }
    for label, (shape, count, size) in CASES.items():
        adapters, losses = train(sharding.make_mesh(shape, jax.devices()[:count]), size)
        expected, expected_losses = alone[size]
        distances[label] = [
            max(relative_distance(adapters[task], expected[task]) for task in TASKS),
            float(np.abs(losses / expected_losses - 1).max()),
        ]
    print(json.dumps(distances))


if __name__ == '__main__':
    main()
