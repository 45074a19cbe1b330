"""What a training writes down about itself."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.training.metrics import CompileClock, LossWindow, MetricWriter
from lorajax.training.packing import Pack

CLOCK = CompileClock()


def pack(real, size):
    """A pack with `real` tokens of `size`, two a sequence."""
    ids = np.where(np.arange(size) < real, 1 + np.arange(size) // 2, 0).astype(np.int32)[None]
    return Pack(ids, ids, ids, ids.astype(np.float32), ids)


def test_rows_are_appended_and_nothing_is_written_without_a_path(tmp_path):
    path = tmp_path / 'new' / 'metrics.jsonl'
    MetricWriter(path).write('train', loss=1.5)
    MetricWriter(path).write('eval', task='a')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row['event'] for row in rows] == ['train', 'eval']
    assert rows[0]['loss'] == 1.5 and rows[0]['time'] <= rows[1]['time']
    MetricWriter(None).write('train', loss=1.5)


def test_a_window_writes_means_of_the_steps_that_count(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    window = LossWindow('source', ['a', 'b'], MetricWriter(path))
    window.add(pack(6, 8), jnp.array([1.0, 4.0]), np.array([0, 1]))
    window.add(pack(2, 8), jnp.array([2.0, np.nan]), np.array([0, -1]))
    values = window.flush(11, 3, CLOCK)
    window.add(pack(8, 8), jnp.array([3.0, np.nan]), np.array([0, -1]))
    window.flush(12, 3, CLOCK)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first['step'] == 12 and second['step'] == 13
    assert first['loss'] == [1.5, 4.0] and second['loss'] == [3.0, None]
    assert first['padding_share'] == 0.5 and second['padding_share'] == 0.0
    assert first['tasks'] == ['a', 'b'] and first['side'] == 'source'
    assert first['compile_seconds'] == first['compile_cached'] == 0
    assert first['compile_count'] == 3 and first['tokens_per_second'] > 0
    assert first.get('host_peak_bytes', 0) + first.get('device_peak_bytes', 0) > 1e6
    assert values['loss'] == '2.750'


def test_losses_are_those_of_the_tasks_that_had_the_places(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    window = LossWindow('source', ['a', 'b', 'c'], MetricWriter(path))
    window.add(pack(8, 8), jnp.array([1.0, 4.0]), np.array([0, 2]))
    window.add(pack(8, 8), jnp.array([2.0, 6.0]), np.array([1, 2]))
    window.flush(1, 1, CLOCK)
    (row,) = (json.loads(line) for line in path.read_text().splitlines())
    assert row['tasks'] == ['a', 'b', 'c'] and row['loss'] == [1.0, 2.0, 5.0]


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_the_first_loss_that_is_not_finite_is_named_with_its_task_and_step(value):
    window = LossWindow('source', ['a', 'b'], MetricWriter(None))
    everyone = np.array([0, 1])
    window.add(pack(8, 8), jnp.array([1.0, 1.0]), everyone)
    window.add(pack(8, 8), jnp.array([1.0, value]), everyone)
    window.add(pack(8, 8), jnp.array([np.nan, np.nan]), everyone)
    message = rf'^source: loss of b is {value} at step 18; try a lower learning rate$'
    with pytest.raises(InputError, match=message):
        window.flush(19, 1, CLOCK)


def test_a_clock_hears_of_programs_that_are_compiled_while_it_runs():
    with CompileClock() as outer, CompileClock() as clock:
        jax.jit(lambda x: 5 * x + 1)(np.arange(3.0))
        assert clock.elapsed > 0
    heard = clock.values()
    assert heard['compile_count'] == 1 and heard['compile_cached'] == 0
    assert 0 < heard['compile_seconds'] <= heard['seconds']
    assert outer.values()['compile_count'] == 1  # a clock in a clock
    jax.jit(lambda x: 6 * x + 1)(np.arange(3.0))
    assert clock.values() == heard
