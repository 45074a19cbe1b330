"""States that survive a killed training."""

import contextlib
import resource
import signal

import jax
import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.training.checkpoint import TrainCheckpoints, group_name


def state(value):
    return {'x': jax.numpy.full((3,), value, jax.numpy.float32), 'count': jax.numpy.int32(value)}


def test_without_a_saved_state_the_given_one_is_returned(tmp_path):
    with contextlib.closing(TrainCheckpoints(tmp_path / 'new')) as checkpoints:
        fresh = state(7)
        step, restored = checkpoints.restore(fresh)
    assert step == 0 and restored is fresh


def test_the_newest_state_is_restored_with_its_bits_and_older_ones_are_removed(tmp_path):
    with contextlib.closing(TrainCheckpoints(tmp_path)) as checkpoints:
        for step in (2, 4, 10):
            checkpoints.save(step, state(step + 0.1))
    with contextlib.closing(TrainCheckpoints(tmp_path)) as checkpoints:
        step, restored = checkpoints.restore(state(0))
    assert step == 10
    jax.tree.map(np.testing.assert_array_equal, restored, state(10.1))
    assert restored['x'].sharding == state(0)['x'].sharding
    assert [path.name for path in tmp_path.iterdir()] == ['10']


def test_names_of_groups_depend_on_tasks_and_order():
    names = {group_name(tasks) for tasks in (['a', 'b'], ['b', 'a'], ['a'], ['a,b'], ['ab'])}
    assert len(names) == 5
    assert group_name(('a', 'b')) == group_name({'a': 1, 'b': 2}) == group_name(['a', 'b'])


@pytest.fixture
def small_files():
    """A system that lets no file grow beyond 64 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures('small_files')
def test_a_state_that_cannot_be_written_is_one_line(tmp_path):
    large = {'x': jax.random.normal(jax.random.key(0), (512, 512))}  # noise is not compressed
    checkpoints = TrainCheckpoints(tmp_path)
    with pytest.raises(InputError) as caught, contextlib.closing(checkpoints):
        checkpoints.save(1, large)
    assert str(caught.value) == f'{tmp_path}: cannot be written: file too large'
