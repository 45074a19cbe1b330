"""Bytes from shapes: exact where they are exact, and divided as the mesh divides."""

import os

import pytest

from lorajax.experiment import memory
from lorajax.models import presets

COMMON = {'rank': 16, 'batch_size': 8, 'max_len': 512, 'dtype': 'bfloat16', 'remat': 'dots',
          'param_dtype': 'bfloat16', 'mesh': (1, 1, 1)}  # fmt: skip
SHAPES = ((presets.QWEN2_5_3B, 29_933_568), (presets.LLAMA3_2_3B, 24_313_856))


@pytest.mark.parametrize(('config', 'factors'), SHAPES, ids=['qwen', 'llama'])
def test_weights_and_adapters_are_counted_exactly(config, factors):
    targets = tuple(config.projections)
    parts = memory.training_bytes(config, adapters=2, targets=targets, **COMMON)
    assert parts['params'] == 2 * config.num_params
    # Factors, gradients and two moments of two adapters, in float32.
    assert parts['adapters'] == 2 * 4 * 4 * factors
    fewer = memory.training_bytes(config, adapters=2, targets=('q_proj',), **COMMON)
    assert fewer['adapters'] < parts['adapters'] and fewer['params'] == parts['params']


def test_more_is_kept_the_less_is_computed_again():
    def activations(remat):
        return memory.training_bytes(
            presets.LLAMA3_2_3B, adapters=1, targets=('q_proj',), **COMMON | {'remat': remat}
        )['activations']

    assert activations('full') < activations('dots') < activations('none')


def test_the_cache_is_that_of_the_model():
    config = presets.LLAMA3_2_3B
    cached = memory.decoding_bytes(
        config, mesh=(1, 1, 1), adapters=3, batch_size=4, max_len=512, max_new_tokens=100,
        dtype='bfloat16',
    )  # fmt: skip
    # Keys and values of 28 layers, 8 heads of 128, for 3 x 4 rows of 512 + 100 slots, 2 bytes.
    assert cached == 2 * 28 * 8 * 128 * 12 * 612 * 2


def test_what_does_not_fit_is_said_with_what_helps(monkeypatch):
    config = presets.LLAMA3_2_3B
    training = memory.training_bytes(config, adapters=1, targets=('q_proj',), **COMMON)
    for available, word in ((2 * sum(training.values()), 'fits'), (10**9, 'does not fit')):
        monkeypatch.setattr(memory, 'device_bytes', lambda size=available: size)
        lines = memory.describe_model('it', config, training, cache=0)
        assert lines[1].startswith(f'it: {word}')
    monkeypatch.setattr(memory, 'device_bytes', lambda: None)
    assert len(memory.describe_model('it', config, training, cache=0)) == 1


def test_the_machine_is_described():
    total = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    assert memory.device_bytes() == total
    first, second, third = memory.describe_machine((1, -1, 1))
    assert f'{total / 1024**3:.1f} GiB' in first and 'jax 0.' in second
    assert third.startswith('mesh (data, fsdp, tensor): (1, ')
