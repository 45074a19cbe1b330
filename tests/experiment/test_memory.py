"""Bytes from shapes: exact where they are exact, and divided as the mesh divides."""

import os
import types

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
    # Factors, two moments, gradients and factors with their scale, of two adapters in float32.
    assert parts['adapters'] == 2 * 5 * 4 * factors
    fewer = memory.training_bytes(config, adapters=2, targets=('q_proj',), **COMMON)
    assert fewer['adapters'] < parts['adapters'] and fewer['params'] == parts['params']


def test_more_is_kept_the_less_is_computed_again():
    def activations(remat):
        return memory.training_bytes(
            presets.LLAMA3_2_3B, adapters=1, targets=('q_proj',), **COMMON | {'remat': remat}
        )['activations']

    assert activations('full') < activations('dots') < activations('none')


def decoding(**changes):
    """Parts of an evaluation of the Llama shape."""
    config = presets.LLAMA3_2_3B
    options = {name: COMMON[name] for name in ('mesh', 'rank', 'max_len', 'param_dtype', 'dtype')}
    options |= {'adapters': 3, 'batch_size': 4, 'max_new_tokens': 100}
    options['targets'] = tuple(config.projections)
    return memory.decoding_bytes(config, **options | changes)


def test_the_cache_is_that_of_the_model():
    # Keys and values of 28 layers, 8 heads of 128, for 3 x 4 rows of 512 + 100 slots, 2 bytes.
    cache = 2 * 28 * 8 * 128 * 12 * 612 * 2
    assert decoding()['cache'] == cache
    assert decoding(dtype='float32')['cache'] == 2 * cache
    assert decoding()['adapters'] == 2 * 3 * 4 * 24_313_856  # as given, and with the layers first


def test_a_second_adapter_keeps_less_than_the_first():
    """The update of a single one is a plain product, which `dots` keeps with those of the base."""

    def kept(adapters):
        options = COMMON | {'batch_size': 8 // adapters}
        parts = memory.training_bytes(
            presets.QWEN2_5_3B, adapters=adapters, targets=('q_proj',), **options
        )
        return parts['activations']

    assert 1.7 < kept(1) / kept(2) < 2


def test_no_more_is_kept_than_of_the_tokens_that_are_computed_at_a_time():
    def activations(batch_size):
        return memory.training_bytes(
            presets.QWEN2_5_3B, adapters=4, targets=('q_proj',),
            **COMMON | {'batch_size': batch_size},
        )['activations']  # fmt: skip

    assert activations(8) < activations(16) == activations(32)


# XLA's own account of one device, in bytes, of `python -m benchmarks.memory --dtype=float32` with
# the mesh 1,1,1: of the training step for 8 examples of 512 tokens an adapter, and of reading 16
# prompts of 512 tokens an adapter.
COMPILED = {
    ('qwen', 1, 'full'): 16_728_573_068,
    ('qwen', 2, 'full'): 21_561_428_388,
    ('qwen', 1, 'dots'): 46_929_413_540,
    ('qwen', 2, 'dots'): 52_607_666_644,
    ('qwen', 1, 'none'): 74_371_958_356,
    ('llama', 1, 'full'): 17_542_214_708,
    ('llama', 1, 'dots'): 38_927_312_460,
    ('llama', 1, 'none'): 65_093_285_328,
    ('llama', 4, 'full'): 31_719_670_108,
    ('llama', 4, 'dots'): 76_279_955_916,
}


@pytest.mark.parametrize(('name', 'adapters', 'remat'), COMPILED)
def test_the_estimate_is_near_what_is_compiled(name, adapters, remat):
    """Within 10 %, which is what `fits` leaves free."""
    config = {'qwen': presets.QWEN2_5_3B, 'llama': presets.LLAMA3_2_3B}[name]
    options = COMMON | {'dtype': 'float32', 'param_dtype': 'float32', 'remat': remat}
    parts = memory.training_bytes(
        config, adapters=adapters, targets=tuple(config.projections), **options
    )
    assert sum(parts.values()) == pytest.approx(COMPILED[name, adapters, remat], rel=0.1)


def test_a_tenth_of_the_memory_is_left_free():
    parts = memory.training_bytes(presets.LLAMA3_2_3B, adapters=1, targets=('q_proj',), **COMMON)
    total = sum(parts.values())
    for available, answer in (
        (2 * total, True), (total, False), (int(1.05 * total), False), (None, None)
    ):  # fmt: skip
        assert memory.fits(parts, available) is answer


def test_a_model_is_described_by_its_parts():
    config = presets.LLAMA3_2_3B
    training = memory.training_bytes(config, adapters=1, targets=('q_proj',), **COMMON)
    lines = memory.describe_model('it', config, training, decoding())
    assert [line.split(', ')[-1].split(':')[0] for line in lines[1:]] == ['training', 'evaluation']


def test_the_machine_is_described():
    total = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    assert memory.device_bytes() == total
    first, second = memory.describe_machine()
    assert f'{total / 1024**3:.1f} GiB' in first and 'jax 0.' in second
    mesh = memory.describe_mesh((1, -1, 1))
    assert mesh.startswith('mesh (data, fsdp, tensor[, adapters]): 1,')


def test_devices_that_are_elsewhere_are_planned_for():
    whole = decoding()
    parts = decoding(mesh=(1, 8, 1))
    assert parts['params'] < whole['params'] / 7  # norms are whole everywhere
    assert 'elsewhere' in memory.describe_mesh((1, 8, 1))
    assert memory.describe_mesh((1, -1, 1)) == 'mesh (data, fsdp, tensor[, adapters]): 1,1,1'


def test_heads_that_the_tensor_axis_does_not_divide_are_whole_everywhere():
    assert decoding(mesh=(1, 1, 4))['cache'] == decoding()['cache'] / 4  # of 8 heads
    options = {name: COMMON[name] for name in ('rank', 'max_len', 'param_dtype', 'dtype')}
    qwen = [
        memory.decoding_bytes(
            presets.QWEN2_5_3B, mesh=(1, 1, parts), adapters=3, batch_size=4, max_new_tokens=9,
            targets=('q_proj',), **options,
        )['cache']
        for parts in (1, 2, 4)
    ]  # fmt: skip
    assert qwen[0] == 2 * qwen[1] == qwen[2]  # of two heads


@pytest.mark.parametrize(
    ('platform', 'mesh', 'is_twice'),
    [('gpu', (1, 1, 1), True), ('gpu', (1, 8, 1), False), ('cpu', (1, 1, 1), False)],
)
def test_a_gpu_holds_the_layers_twice_where_decoding_has_them_apart(platform, mesh, is_twice):
    config = presets.LLAMA3_2_3B
    found = memory.layers_apart(
        config, mesh=mesh, param_dtype='bfloat16', quantize='none',
        devices=[types.SimpleNamespace(platform=platform)], limit=60 * 2**30,
    )  # fmt: skip
    embedding = config.vocab_size * config.embed_dim
    expected = 2 * (config.num_params - embedding - config.embed_dim)  # and the final norm
    assert found == (expected if is_twice else 0)
