"""Checkpoints written here are what transformers loads, and what is read here again."""

import jax
import numpy as np
import pytest

from lorajax import models
from lorajax.io import tensor_files
from lorajax.models import presets
from lorajax.models.hf import export


@pytest.mark.parity
@pytest.mark.parametrize(('family', 'tied', 'dtype'), [
    ('qwen2', True, 'float32'), ('qwen2', False, 'bfloat16'),
    ('llama', False, 'float32'), ('llama', True, 'bfloat16'),
    *((family, True, 'float32') for family in ('qwen3', 'mistral', 'gemma2', 'gemma3_text')),
])  # fmt: skip
def test_transformers_loads_what_is_saved_here_with_the_same_bits(tmp_path, family, tied, dtype):
    torch = pytest.importorskip('torch')
    import transformers

    from tests.models import reference

    theirs = reference.make(tmp_path / 'a', family, tied).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path / 'a')
    model = models.load_model(str(tmp_path / 'a'), param_dtype=dtype)
    for name, shard_bytes in (('whole', 10**9), ('shards', 20_000)):
        (tmp_path / name).mkdir()
        export.save_params(tmp_path / name, model.config, model.params, shard_bytes=shard_bytes)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype='auto')
        reference.assert_same_state(loaded, theirs)
    assert len(list((tmp_path / 'shards').glob('model-*.safetensors'))) > 2


def test_files_keep_the_order_of_axes_of_the_tree(tmp_path):
    model = models.random_model(presets.LLAMA3_TINY, jax.random.key(0))
    export.save_params(tmp_path, model.config, model.params)
    tensors = tensor_files.read(tmp_path / 'model.safetensors')
    kernel = model.params['layers']['down_proj']['kernel']
    np.testing.assert_array_equal(tensors['model.layers.1.mlp.down_proj.weight'], kernel[1])
    assert kernel.shape == (2, 48, 64)


def test_shards_are_begun_at_their_size_and_named_by_the_index(tmp_path):
    specs = {name: tensor_files.Spec(np.dtype('float32'), (5, 2)) for name in 'abcde'}
    export.write_tensors(tmp_path, specs, lambda name: np.full((5, 2), ord(name), 'f'), 80)
    files = [f'model-{i:05d}-of-00003.safetensors' for i in (1, 2, 3)]
    names_by_file = [set(tensor_files.read(tmp_path / file)) for file in files]
    assert names_by_file == [{'a', 'b'}, {'c', 'd'}, {'e'}]
    weight_map = {
        name: file for file, names in zip(files, names_by_file, strict=True) for name in names
    }
    assert models.hf.checkpoint.read_index(tmp_path) == weight_map
