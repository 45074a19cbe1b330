"""Loss, gradients, tokens and a mapping on meshes of many devices, against one device.

    python -m benchmarks.equality [--processes=1,2,4]

A small model with random weights and eight adapters, float32. The devices are CPUs that XLA is told
to see, eight in all, shared by one process or by several that talk over loopback. The table has the
largest difference of each mesh (data, fsdp, tensor[, adapters]) from one device:

- loss: of the eight adapters in a training step, relative;
- gradients: Adam's first moments after it, by norm, the worst leaf;
- adapters: after the step, the same;
- answers' loss: of given answers, teacher-forced, relative;
- tokens: of 8 x 11 x 8 decoded ones, how many are others;
- mapping: a prediction of `delta_ridge` fitted on the adapters after the step, by norm.

It takes some minutes on two cores, nearly all of it compiling. Meshes of fewer devices leave the
rest idle, so they are measured in one process alone.
"""

import dataclasses
import json
import math
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags

DEVICES = 8
MESHES = ((8, 1, 1), (1, 8, 1), (1, 1, 2), (2, 2, 2), (1, 1, 1, 8), (2, 1, 2, 2))
COLUMNS = ('loss', 'gradients', 'adapters', "answers' loss", 'tokens', 'mapping')
_ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class _Ids:
    """What decoding needs of a chat format."""

    stop_ids: tuple[int, ...] = (40, 41)
    pad_id: int = 0


def compute(shape: Sequence[int], is_alone: bool = False) -> dict[str, Any]:
    """Returns what is compared, on the host, as computed on a mesh.

    Args:
      shape: see `sharding.make_mesh`.
      is_alone: whether to take the first device of this process instead.
    """
    import jax

    from lorajax import mapping, models, processes, sharding
    from lorajax.evaluation import continuous
    from lorajax.models import presets
    from lorajax.models.hf import checkpoint
    from lorajax.models.placement import param_shardings
    from lorajax.training.loop import make_plan
    from lorajax.training.optimizer import make_optimizer
    from lorajax.training.state import init_state
    from lorajax.training.step import make_train_step
    from tests.training.examples import SMOOTH, make_examples

    devices = jax.local_devices()[:1] if is_alone else jax.devices()[: math.prod(shape)]
    mesh = sharding.make_mesh((1, 1, 1) if is_alone else shape, devices)
    config = dataclasses.replace(presets.QWEN2_TINY, vocab_size=96, num_layers=1)
    model = models.random_model(config, jax.random.key(0), mesh=mesh)
    where = param_shardings(mesh, config)
    flat = checkpoint.flatten(model.params)
    placed = {path: processes.place(np.asarray(leaf), where[path]) for path, leaf in flat.items()}
    model = dataclasses.replace(model, params=checkpoint.unflatten(placed))
    tasks = {f'task{i}': make_examples(i, 8) for i in range(8)}
    recipe = dataclasses.replace(SMOOTH, batch_size=8, max_grad_norm=1e6)  # no gradient is clipped
    plan = make_plan(model, tasks, recipe, pad_id=0)
    state = init_state(config, recipe, list(tasks), mesh)
    rng = np.random.default_rng(0)
    start = jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), state.adapters
    )
    begun = jax.tree.map(lambda x, leaf: processes.place(x, leaf.sharding), start, state.adapters)
    step = make_train_step(model.module, mesh, make_optimizer(recipe), recipe.targets)
    pack = processes.place(plan.pack(0), sharding.sharding(mesh, 'packed', None))
    state, loss = step(
        model.params, state._replace(adapters=begun), pack, plan.rates[0], plan.scales(0),
        plan.blocking(0), plan.layout.num_pieces,
    )  # fmt: skip
    moments = next(part.mu for part in state.opt_state if hasattr(part, 'mu'))
    trained, moments, loss = processes.to_host((state.adapters, moments, loss))
    answers = continuous.answer(
        model, _Ids(), start, make_examples(9, 11), batch_size=4, max_len=16, max_new_tokens=8
    )
    sources, targets = (
        {task: jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i, task in enumerate(tasks)}
        for tree in (start, trained)
    )
    query = sources.pop('task7')
    del targets['task7']
    predicted = mapping.fit('delta_ridge', sources, targets).predict(query)
    return {
        'loss': loss, 'gradients': moments, 'adapters': trained, "answers' loss": answers.nll,
        'tokens': answers.tokens, 'mapping': predicted,
    }  # fmt: skip


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, float]:
    """Returns the largest difference of each of `COLUMNS`."""
    import jax

    def by_norm(name: str) -> float:
        pairs = zip(jax.tree.leaves(found[name]), jax.tree.leaves(expected[name]), strict=True)
        return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)

    def relative(name: str) -> float:
        return float(np.abs(found[name] / expected[name] - 1).max())

    return {
        **{name: relative(name) for name in ('loss', "answers' loss")},
        **{name: by_norm(name) for name in ('gradients', 'adapters', 'mapping')},
        'tokens': int((found['tokens'] != expected['tokens']).sum()),
    }


def work(port: int, count: int, index: int) -> None:
    """Prints the differences of all meshes, as one of `count` processes."""
    from lorajax import processes

    if count > 1:
        processes.join(f'127.0.0.1:{port}', count, index)
    expected = compute((1, 1, 1), is_alone=True)
    for shape in MESHES:
        if count > 1 and math.prod(shape) < DEVICES:
            continue
        found = differences(compute(shape), expected)
        if processes.is_first():
            print(json.dumps({'mesh': ','.join(map(str, shape)), **found}), flush=True)
    processes._state['is_end_agreed'] = True
    processes.leave(0)


def rows(count: int) -> list[dict[str, Any]]:
    """Runs `count` processes and returns what the first says of each mesh.

    Raises:
      RuntimeError: with what they said, if one fails.
    """
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, 'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': '--xla_backend_optimization_level=0 '
        f'--xla_force_host_platform_device_count={DEVICES // count}',
    }  # fmt: skip
    running = [
        subprocess.Popen(
            [sys.executable, '-m', 'benchmarks.equality', f'--work={port},{count},{index}'],
            cwd=_ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for index in range(count)
    ]  # fmt: skip
    said = [process.communicate() for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError('\n'.join(errors[-3000:] for _, errors in said))
    return [json.loads(line) for line in said[0][0].splitlines() if line.startswith('{')]


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    if flags.FLAGS.work:
        work(*map(int, flags.FLAGS.work))
        return
    print('| processes | mesh | ' + ' | '.join(COLUMNS) + ' |')
    print('| ---: | --- |' + ' ---: |' * len(COLUMNS))
    for count in map(int, flags.FLAGS.processes):
        for row in rows(count):
            cells = [str(row[c]) if c == 'tokens' else f'{row[c]:.1e}' for c in COLUMNS]
            print(f'| {count} | {row["mesh"]} | ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
    flags.DEFINE_list('processes', ['1', '2', '4'], 'numbers of processes that share the devices')
    flags.DEFINE_list('work', None, 'port, number of processes, index: be one of them')
    app.run(main)
