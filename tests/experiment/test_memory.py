"""Bytes from shapes: exact where they are exact, and divided as the mesh divides."""

import dataclasses
import os
import types

import jax
import pytest

from lorajax.experiment import memory, targets
from lorajax.experiment.config import Experiment
from lorajax.models import cache, kernels, known, presets
from lorajax.models.transformer import Transformer

GIB = 1024**3

EXPERIMENT = Experiment(
    mesh=(1, 1, 1), lora_rank=16, batch_size=8, max_len=512, eval_batch_size=4, max_new_tokens=100,
    param_dtype='bfloat16', dtype='bfloat16', remat='dots',
)  # fmt: skip
SHAPES = ((presets.QWEN2_5_3B, 29_933_568), (presets.LLAMA3_2_3B, 24_313_856))


def training(config=presets.LLAMA3_2_3B, adapters=1, **changes):
    return memory.training_bytes(dataclasses.replace(EXPERIMENT, **changes), config, adapters)


def decoding(config=presets.LLAMA3_2_3B, **changes):
    return memory.decoding_bytes(dataclasses.replace(EXPERIMENT, **changes), config, 3)


@pytest.mark.parametrize(('config', 'factors'), SHAPES, ids=['qwen', 'llama'])
def test_weights_and_adapters_are_counted_exactly(config, factors):
    parts = training(config, 2)
    assert parts['params'] == 2 * config.num_params
    # Factors, two moments, gradients and factors with their scale, of two adapters in float32.
    assert parts['adapters'] == 2 * 5 * 4 * factors
    fewer = training(config, 2, lora_targets=('q_proj',))
    assert fewer['adapters'] < parts['adapters'] and fewer['params'] == parts['params']


def test_more_is_kept_the_less_is_computed_again():
    full, dots, none = (training(remat=name)['activations'] for name in ('full', 'dots', 'none'))
    assert full < dots < none


def test_the_cache_is_that_of_the_model():
    # Keys and values of 28 layers, 8 heads of 128, for 3 x 4 rows of 512 + 100 slots, 2 bytes.
    cache = 2 * 28 * 8 * 128 * 12 * 612 * 2
    assert decoding()['cache'] == cache
    assert decoding(dtype='float32')['cache'] == 2 * cache
    assert decoding()['adapters'] == 2 * 3 * 4 * 24_313_856  # as given, and with the layers first


def test_a_second_adapter_keeps_less_than_the_first():
    """The update of a single one is a plain product, which `dots` keeps with those of the base."""
    one, two = (
        training(presets.QWEN2_5_3B, count, batch_size=8 // count)['activations']
        for count in (1, 2)
    )
    assert 1.7 < one / two < 2


def test_no_more_is_kept_than_of_the_tokens_that_are_computed_at_a_time():
    found = [
        training(presets.QWEN2_5_3B, 4, batch_size=rows)['activations'] for rows in (8, 16, 32)
    ]
    assert found[0] < found[1] == found[2]


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
    parts = training(config, adapters, dtype='float32', param_dtype='float32', remat=remat)
    assert sum(parts.values()) == pytest.approx(COMPILED[name, adapters, remat], rel=0.1)


# The same for an H100, in GiB, of `python -m benchmarks.memory gpu_80gb --compilers=DIR`: kernel of
# attention, training, prompts, decoding. Layers with a window among those without, output norms.
WINDOWED = {
    'gemma-2-2b': (kernels.XLA, 32.83, 19.38, 22.42),
    'gemma-3-1b': (kernels.XLA, 19.82, 7.54, 6.93),
    'Mistral-7B-v0.1': (kernels.CUDNN, 61.63, 32.79, 44.07),
}


@pytest.mark.parametrize('name', WINDOWED)
def test_windows_and_output_norms_are_known(name):
    attention, *compiled = WINDOWED[name]
    config = known.find(name)
    experiment = dataclasses.replace(EXPERIMENT, eval_batch_size=32, max_new_tokens=0)
    whole = memory.decoding_bytes(experiment, config, 4)
    gpu = [types.SimpleNamespace(platform='gpu')]
    apart = memory.layers_apart(experiment, config, gpu, targets.look_up('h100').memory)
    found = [
        sum(memory.training_bytes(experiment, config, 4, attention).values()),
        sum(whole.values()) - whole['cache'],  # which is made when the prompts are read
        sum(whole.values()) - whole['prompts'] + apart,
    ]
    # `fits` leaves a tenth free. With few heads prompts need less than is said.
    for estimate, actual, above in zip(found, compiled, (0.05, 0.16, 0.02), strict=True):
        assert -0.05 < estimate / GIB / actual - 1 < above


# Training with remat none for an H100, in GiB, by `programs.compile_training`.
KEPT = {
    'Llama-3.2-3B': (kernels.CUDNN, 2, 31.94),
    'Qwen2.5-3B': (kernels.CUDNN, 2, 35.22),
    'Mistral-7B-v0.1': (kernels.CUDNN, 1, 34.97),
    'gemma-2-2b': (kernels.XLA, 2, 44.82),
}


@pytest.mark.parametrize('name', KEPT)
def test_what_half_precision_keeps_without_remat(name):
    attention, adapters, actual = KEPT[name]
    experiment = dataclasses.replace(EXPERIMENT, remat='none')
    parts = memory.training_bytes(experiment, known.find(name), adapters, attention)
    assert sum(parts.values()) / GIB == pytest.approx(actual, rel=0.04)


@pytest.mark.parametrize('config', [presets.GEMMA2_TINY, presets.MISTRAL_TINY])
def test_layers_with_a_window_have_as_many_slots_as_others(config):
    module = Transformer(config)

    def read(tokens):
        weights = module.init(jax.random.key(0), tokens, tokens)
        _, kv = module.apply(weights, tokens, tokens, return_kv=True)
        return cache.from_prompts(kv, tokens > 0, EXPERIMENT.max_new_tokens)

    made = jax.eval_shape(read, jax.ShapeDtypeStruct((12, EXPERIMENT.max_len), 'int32'))
    assert decoding(config, dtype='float32')['cache'] == 4 * (made.k.size + made.v.size)


def test_a_tenth_of_the_memory_is_left_free():
    parts = training()
    total = sum(parts.values())
    for available, answer in (
        (2 * total, True), (total, False), (int(1.05 * total), False), (None, None)
    ):  # fmt: skip
        assert memory.fits(parts, available) is answer


def test_a_model_is_described_by_its_parts():
    lines = memory.describe_model('it', presets.LLAMA3_2_3B, training(), decoding())
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
    qwen = [decoding(presets.QWEN2_5_3B, mesh=(1, 1, parts))['cache'] for parts in (1, 2, 4)]
    assert qwen[0] == 2 * qwen[1] == qwen[2]  # of two heads


@pytest.mark.parametrize(
    ('platform', 'mesh', 'is_twice'),
    [('gpu', (1, 1, 1), True), ('gpu', (1, 8, 1), False), ('cpu', (1, 1, 1), False)],
)
def test_a_gpu_holds_the_layers_twice_where_decoding_has_them_apart(platform, mesh, is_twice):
    config = presets.LLAMA3_2_3B
    found = memory.layers_apart(
        dataclasses.replace(EXPERIMENT, mesh=mesh), config,
        [types.SimpleNamespace(platform=platform)], 60 * 2**30,
    )  # fmt: skip
    embedding = config.vocab_size * config.embed_dim
    expected = 2 * (config.num_params - embedding - config.embed_dim)  # and the final norm
    assert found == (expected if is_twice else 0)
