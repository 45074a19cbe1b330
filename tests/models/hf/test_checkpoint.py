"""Checkpoints survive a round trip, and damaged ones are refused with a name."""

import jax
import ml_dtypes
import numpy as np
import pytest

from lorajax import models
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.models import config as config_lib
from lorajax.models import presets
from lorajax.models.hf import checkpoint, export, hub

WEIGHTS = 'model.safetensors'


@pytest.fixture(params=[presets.QWEN2_TINY, presets.LLAMA3_TINY], ids=['qwen2', 'llama'])
def saved(request, tmp_path):
    model = models.random_model(request.param, jax.random.key(0))
    export.save_params(tmp_path, request.param, model.params)
    return tmp_path, model


def assert_same(params, other):
    jax.tree.map(np.testing.assert_array_equal, params, other)


def test_round_trip_gives_the_same_bits(saved):
    directory, model = saved
    loaded = models.load_model(str(directory))
    assert loaded.config == model.config
    assert_same(loaded.params, model.params)


def test_shards_by_index_give_the_same_bits(saved):
    directory, model = saved
    (directory / WEIGHTS).unlink()
    export.save_params(directory, model.config, model.params, shard_bytes=20_000)
    assert len(list(directory.glob('model-*-of-*.safetensors'))) > 2
    assert_same(models.load_model(str(directory)).params, model.params)


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16])
def test_half_precision_files_are_cast_once(saved, dtype):
    directory, model = saved
    export.save_params(directory, model.config, model.params, dtype=dtype)
    loaded = models.load_model(str(directory), param_dtype='float32')
    expected = jax.tree.map(lambda x: np.asarray(x).astype(dtype).astype(np.float32), model.params)
    assert_same(loaded.params, expected)
    kept = models.load_model(str(directory), param_dtype='bfloat16')
    assert {leaf.dtype.name for leaf in jax.tree.leaves(kept.params)} == {'bfloat16'}


def edit(directory, change):
    tensors = tensor_files.read(directory / WEIGHTS)
    change(tensors)
    tensor_files.write(directory / WEIGHTS, tensors)


FIRST = 'model.layers.0.mlp.up_proj.weight'


@pytest.mark.parametrize('keep', [0, 5, 100, -1])
def test_truncated_files_are_refused(saved, keep):
    directory, _ = saved
    path = directory / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=str(path)):
        models.load_model(str(directory))


def test_every_flipped_bit_of_the_header_is_refused_or_harmless(saved):
    directory, model = saved
    path = directory / WEIGHTS
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], 'little')
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, end, 150):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            checkpoint.find_tensors(directory, model.config)
        except InputError as error:
            refused += 1
            assert '\n' not in str(error)
    assert refused > 130  # what is left are bits of the metadata and of blanks


@pytest.mark.parametrize('dtype', [np.float32, np.float16, ml_dtypes.bfloat16])
def test_weights_that_are_not_finite_are_named(saved, dtype):
    directory, model = saved
    export.save_params(directory, model.config, model.params, dtype=dtype)
    edit(directory, lambda t: t[FIRST].__setitem__((0, 1), np.inf))
    with pytest.raises(InputError, match=f'{FIRST} holds NaN or infinity'):
        models.load_model(str(directory))


@pytest.mark.parametrize('preset', [presets.QWEN2_5_3B, presets.LLAMA3_2_3B])
def test_presets_survive_their_own_config_file(preset):
    assert config_lib.from_hf(config_lib.to_hf(preset)) == preset


def test_parameter_counts_of_the_3b_presets():
    # The hub's model cards: 3.09 billion and 3.21 billion.
    assert presets.QWEN2_5_3B.num_params == 3_085_938_688
    assert presets.LLAMA3_2_3B.num_params == 3_212_749_824


def test_an_unknown_hub_id_without_network_gives_one_line():
    with pytest.raises(InputError, match='nobody/nothing') as error:
        hub.resolve('nobody/nothing')
    assert '\n' not in str(error.value)
