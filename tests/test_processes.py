"""Several processes that work as one, over loopback; and a single one, for which all is plain.

`tests/two_processes.py` is what each of them does.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import processes, sharding
from lorajax.errors import ArgumentError

ROOT = pathlib.Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='module')
def ended():
    """Status, standard output and standard error of two processes."""
    port, count = free_port(), 2
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, '-m', 'tests.two_processes', *map(str, (port, count, index))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
        )
        for index in range(count)
    ]  # fmt: skip
    return [(*process.communicate(timeout=120), process.returncode) for process in running]


@pytest.fixture(scope='module')
def said(ended):
    texts = [[line for line in out.splitlines() if line.startswith('{')] for out, _, _ in ended]
    assert all(texts), [err[-2000:] for _, err, _ in ended]
    return [json.loads(lines[0]) for lines in texts]


def test_the_first_decides_for_all(said):
    for heard in said:
        assert heard['agreed'] == ['of', 0]
        assert heard['refused'] == 'mesh (1, 2): is refused'
        assert heard['first'] == 7


def test_a_training_on_the_devices_of_all_is_that_of_one(said):
    assert said[0]['distance'] < 2e-4  # float32 sums in another order, as on eight devices


def test_all_hear_of_a_signal_to_one(said):
    for heard in said:
        assert heard['status'] == 128 + signal.SIGTERM


def test_a_process_that_dies_ends_the_others(said, ended):
    assert [status for _, _, status in ended] in (
        [processes.LOST, -signal.SIGKILL],
        [-signal.SIGABRT, -signal.SIGKILL],  # JAX was quicker; the parent of each makes it LOST
    )


def test_a_single_process_decides_for_itself():
    assert processes.is_first() and not processes.is_joined()
    marker = object()
    assert processes.on_first(lambda: marker) is marker
    assert processes.from_first(marker) is marker
    processes.leave(3)  # an ordinary end is to follow
    assert not processes.is_loss(jax.errors.JaxRuntimeError('Gloo AllGather failed'))


def test_arrays_go_to_devices_and_back():
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    tree = {'a': np.arange(6, dtype=np.int32).reshape(2, 3), 'b': [np.float32(2)]}
    placed = processes.place(tree, sharding.sharding(mesh))
    assert isinstance(placed['a'], jax.Array)
    found = processes.to_host({**placed, 'c': jnp.ones(2)})
    assert isinstance(found['a'], np.ndarray)
    np.testing.assert_array_equal(found['a'], tree['a'])
    np.testing.assert_array_equal(found['c'], [1, 1])


def test_what_nobody_says_is_named(monkeypatch):
    def initialize(*given, **others):
        raise ValueError('coordinator_address should be defined.')

    monkeypatch.setattr(jax.distributed, 'initialize', initialize)
    with pytest.raises(ArgumentError, match='coordinator_address'):
        processes.join(None, 2, 0)
