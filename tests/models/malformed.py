"""Checkpoints that must be refused, and the line for each.

A case, as `tests/damages.py` has it, damages a checkpoint of the tiny Qwen2 model in float32.
"""

import json

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import save

from lorajax import models
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.models import presets
from lorajax.models.hf import export
from tests import damages

CONFIG, WEIGHTS, INDEX = 'config.json', 'model.safetensors', 'model.safetensors.index.json'
TENSOR = 'model.layers.0.mlp.up_proj.weight'
MODEL = models.random_model(presets.QWEN2_TINY, jax.random.key(0))


def write_valid(path, **options):
    """Writes the checkpoint that the cases damage."""
    path.mkdir(parents=True, exist_ok=True)
    export.save_params(path, MODEL.config, MODEL.params, **options)


def write_shards(path):
    """Writes it in shards."""
    write_valid(path, shard_bytes=20_000)
    return sorted(file.name for file in path.glob('model-*.safetensors'))


VALID = damages.Valid(write_valid, CONFIG, WEIGHTS)


def _pickled(path):
    write_valid(path)
    (path / WEIGHTS).rename(path / 'pytorch_model.bin')


def _foreign(change, dtype=np.float32):
    """Returns a case: a file of the safetensors package, without checksum, is changed."""

    def make(path):
        write_valid(path, dtype=dtype)
        data = save(tensor_files.read(path / WEIGHTS))
        (path / WEIGHTS).write_bytes(change(data))

    return make


def _entry(**changes):
    """Returns a case: fields of one tensor's entry in the header are changed."""

    def change(text):
        header = json.loads(text)
        header[TENSOR].update(changes)
        return json.dumps(header)

    return _foreign(damages.edit_header(change))


def _make_infinite(data):
    """Sets the exponent bits of a bfloat16 number, as a flip of its highest can."""
    length = int.from_bytes(data[:8], 'little')
    start = 8 + length + json.loads(data[8 : 8 + length])[TENSOR]['data_offsets'][0]
    damaged = bytearray(data)
    damaged[start] |= 0x80
    damaged[start + 1] |= 0x7F
    return bytes(damaged)


def _index(change):
    """Returns a case: the index of a checkpoint in shards is changed."""

    def make(path):
        names = write_shards(path)
        content = json.loads((path / INDEX).read_text())
        change(content['weight_map'], names)
        (path / INDEX).write_text(json.dumps(content))

    return make


def _point_elsewhere(weight_map, names):
    weight_map[TENSOR] = next(name for name in names if name != weight_map[TENSOR])


def _in_two_shards(path):
    first, second, *_ = write_shards(path)
    name, value = next(iter(tensor_files.read(path / first).items()))
    tensor_files.write(path / second, {**tensor_files.read(path / second), name: value})


def _lost_shard(path):
    (path / write_shards(path)[1]).unlink()


_CONFIGS = {
    'config.json is no JSON': (
        VALID.text(CONFIG, '{"model_type": '),
        'not valid JSON (Expecting value, column 16)',
    ),
    'config.json is a list': (VALID.text(CONFIG, '[]'), 'holds [], expected an object'),
    'unknown family': (
        VALID.settings(model_type='gpt2'),
        "model_type is 'gpt2', expected 'qwen2' or 'qwen3' or 'llama' or 'mistral' or 'gemma2' or "
        "'gemma3_text'",
    ),
    'no family': (
        VALID.settings(model_type=None),
        "lacks model_type, expected 'qwen2' or 'qwen3' or 'llama' or 'mistral' or 'gemma2' or "
        "'gemma3_text'",
    ),
    'missing field': (
        VALID.settings(hidden_size=None),
        'lacks hidden_size, expected an integer from 1 to 2147483647',
    ),
    'width is text': (
        VALID.settings(hidden_size='64'),
        "hidden_size is '64', expected an integer from 1 to 2147483647",
    ),
    'no heads': (
        VALID.settings(num_attention_heads=0),
        'num_attention_heads is 0, expected an integer from 1 to 2147483647',
    ),
    'heads that do not divide': (
        VALID.settings(num_key_value_heads=3),
        'num_attention_heads 4 is not a multiple of num_key_value_heads 3',
    ),
    'epsilon is text': (
        VALID.settings(rms_norm_eps='x'),
        "rms_norm_eps is 'x', expected a number from 0 on",
    ),
    'theta 0': (VALID.settings(rope_theta=0), 'rope_theta is 0, expected a positive number'),
    'unknown RoPE scaling': (
        VALID.settings(rope_scaling={'rope_type': 'yarn', 'factor': 4.0}),
        "rope_type is 'yarn', expected 'default' or 'linear' or 'llama3'",
    ),
    'RoPE scaling without a field': (
        VALID.settings(rope_scaling={'rope_type': 'llama3', 'factor': 8.0}),
        'llama3 RoPE scaling lacks low_freq_factor, high_freq_factor, '
        'original_max_position_embeddings',
    ),
    'other activation': (
        VALID.settings(hidden_act='gelu'),
        "hidden_act is 'gelu', expected 'silu' or 'swish'",
    ),
    'sliding window': (
        VALID.settings(use_sliding_window=True),
        'use_sliding_window is true, expected false',
    ),
    'a boolean as text': (
        VALID.settings(tie_word_embeddings='false'),
        "tie_word_embeddings is 'false', expected true or false",
    ),
    'a boolean as number': (
        VALID.settings(tie_word_embeddings=1),
        'tie_word_embeddings is 1, expected true or false',
    ),
    'layers as true': (
        VALID.settings(num_hidden_layers=True),
        'num_hidden_layers is true, expected an integer from 1 to 2147483647',
    ),
    'epsilon beyond float32': (
        VALID.settings(rms_norm_eps=1e39),
        'rms_norm_eps is 1e+39, expected a number from 0 on',
    ),
    'layer types of a sliding window': (
        VALID.settings(layer_types=['full_attention', 'sliding_attention', 'full_attention']),
        'layer_types are full_attention and sliding_attention, expected full_attention',
    ),
    'layer types of another depth': (
        VALID.settings(layer_types=['full_attention']),
        'layer_types has 1 entries, expected num_hidden_layers, 3',
    ),
    'a part of the channels rotated': (
        VALID.settings(partial_rotary_factor=0.5),
        'partial_rotary_factor is 0.5, expected 1 or 1.0',
    ),
    'RoPE scaling is a list': (
        VALID.settings(rope_scaling=['llama3']),
        "rope_scaling is ['llama3'], expected an object",
    ),
    'RoPE frequencies in the wrong order': (
        VALID.settings(
            rope_scaling={
                'rope_type': 'llama3',
                'factor': 8.0,
                'low_freq_factor': 4.0,
                'high_freq_factor': 1.0,
                'original_max_position_embeddings': 64,
            }
        ),
        'high_freq_factor is 1.0, expected more than low_freq_factor, 4.0',
    ),
    'odd heads': (VALID.settings(head_dim=7), 'head_dim is 7, expected a positive even number'),
    'quantized': (
        VALID.settings(quantization_config={'bits': 4}),
        "quantization_config is {'bits': 4}, expected none",
    ),
}
_WEIGHTS = {
    'a width that no machine could hold': (
        VALID.settings(intermediate_size=2_000_000_000),
        'model.layers.0.mlp.down_proj.weight is (32, 56), config.json says (32, 2000000000)',
    ),
    'another width than the weights': (
        VALID.settings(intermediate_size=96),
        'model.layers.0.mlp.down_proj.weight is (32, 56), config.json says (32, 96)',
    ),
    'truncated': (
        VALID.bytes(lambda data: data[:-1000]),
        'truncated, corrupt or not safetensors (118280 bytes)',
    ),
    'cut inside the length of the header': (
        VALID.bytes(lambda data: data[:5]),
        'truncated, corrupt or not safetensors (5 bytes)',
    ),
    'cut inside the header': (
        VALID.bytes(lambda data: data[:300]),
        'truncated, corrupt or not safetensors (300 bytes)',
    ),
    'empty file': (
        VALID.bytes(lambda data: b''),
        'truncated, corrupt or not safetensors (0 bytes)',
    ),
    'bytes left over': (
        VALID.bytes(lambda data: data + bytes(16)),
        'truncated, corrupt or not safetensors (119296 bytes)',
    ),
    'a bit of the header flipped': (
        _foreign(damages.flip(9, 1)),
        'truncated, corrupt or not safetensors (119248 bytes)',
    ),
    'a bit of the header length flipped': (
        _foreign(damages.flip(2, 0)),
        'truncated, corrupt or not safetensors (119248 bytes)',
    ),
    'a flip that makes infinity': (
        _foreign(_make_infinite, ml_dtypes.bfloat16),
        f'{TENSOR} holds NaN or infinity',
    ),
    'offsets that overlap': (
        _entry(data_offsets=[0, 4 * 56 * 32]),
        'truncated, corrupt or not safetensors (119564 bytes)',
    ),
    'offsets unlike the shape': (
        _entry(data_offsets=[0, 12]),
        'truncated, corrupt or not safetensors (119562 bytes)',
    ),
    'unknown dtype': (
        _entry(dtype='F8_E4M3', shape=[4 * 56, 32]),
        f'{TENSOR} has dtype F8_E4M3, expected one of F64, F32, F16, BF16, I64, I32, I16, I8, '
        'U64, U32, U16, U8, BOOL',
    ),
    'no shape': (_entry(shape=None), 'truncated, corrupt or not safetensors (119565 bytes)'),
    'a name twice in the header': (
        VALID.bytes(damages.name_twice(TENSOR)),
        f"header: not valid JSON ('{TENSOR}' occurs twice in one object)",
    ),
    'wrong dtype': (
        VALID.tensors(lambda t: t.update({TENSOR: t[TENSOR].astype(np.int32)})),
        f'{TENSOR} is int32, expected one of float32, bfloat16, float16, float64',
    ),
    'wrong shape': (
        VALID.tensors(lambda t: t.update({TENSOR: t[TENSOR].T})),
        f'{TENSOR} is (32, 56), config.json says (56, 32)',
    ),
    'an unknown tensor': (
        VALID.tensors(lambda t: t.update(extra=t[TENSOR])),
        'unknown tensor extra for qwen2',
    ),
    'a tensor under two names': (
        VALID.tensors(lambda t: t.update({TENSOR.removeprefix('model.'): t[TENSOR]})),
        f'{TENSOR} is also there as layers.0.mlp.up_proj.weight',
    ),
    'a layer too many': (
        VALID.tensors(lambda t: t.update({TENSOR.replace('.0.', '.3.'): t[TENSOR]})),
        'unknown tensor model.layers.3.mlp.up_proj.weight for qwen2',
    ),
    'the same layer by another number': (
        VALID.tensors(lambda t: t.update({TENSOR.replace('.0.', '.00.'): t[TENSOR]})),
        'unknown tensor model.layers.00.mlp.up_proj.weight for qwen2',
    ),
    'a number that the dtype of the weights cannot hold': (
        VALID.tensors(lambda t: t.update({TENSOR: t[TENSOR].astype(np.float64) + 1e300})),
        f'{TENSOR} holds a number that exceeds float32',
    ),
}
_INDICES = {
    'a shard that is not there': (
        _lost_shard,
        'names model-00002-of-00007.safetensors, which is not there',
    ),
    'an index that names another shard': (
        _index(_point_elsewhere),
        f'{TENSOR} is in model-00001-of-00007.safetensors, but model-00003-of-00007.safetensors '
        'holds it',
    ),
    'an index that names a tensor that no shard holds': (
        _index(lambda m, names: m.update(extra=names[0])),
        'extra is in model-00001-of-00007.safetensors, which does not hold it',
    ),
    'an index that leaves the directory': (
        _index(lambda m, names: m.update({TENSOR: '../other.safetensors'})),
        f"{TENSOR} is in '../other.safetensors', expected a file beside the index",
    ),
    'an index without its map': (
        VALID.text(INDEX, '{}'),
        'has no weight_map, expected the file of each tensor',
    ),
    'an index that is no JSON': (
        VALID.text(INDEX, '{'),
        'not valid JSON (Expecting property name enclosed in double quotes, column 2)',
    ),
}
CASES = {
    'no directory': (
        lambda path: None,
        '{d}: no such directory, and not a hub id (owner/name or owner/name@revision)',
    ),
    'no config.json': (
        VALID.without(CONFIG),
        '{d}: holds no config.json, expected a model in HF format',
    ),
    'no weights': (
        VALID.without(WEIGHTS),
        '{d}: holds neither model.safetensors nor model.safetensors.index.json',
    ),
    'pickle': (
        _pickled,
        '{d}/pytorch_model.bin: pickle weights are never loaded, expected safetensors',
    ),
    'more layers than any machine could list': (
        VALID.settings(num_hidden_layers=2_000_000_000),
        '{d}: lacks tensor model.layers.3.input_layernorm.weight and 23999999963 more',
    ),
    'more layers than weights': (
        VALID.settings(num_hidden_layers=4),
        '{d}: lacks tensor model.layers.3.input_layernorm.weight and 11 more',
    ),
    'a missing tensor': (VALID.tensors(lambda t: t.pop(TENSOR)), f'{{d}}: lacks tensor {TENSOR}'),
    'a tensor in two shards': (
        _in_two_shards,
        '{d}/model-00002-of-00007.safetensors: model.embed_tokens.weight is also in '
        'model-00001-of-00007.safetensors',
    ),
    **damages.of(CONFIG, _CONFIGS),
    **damages.of(WEIGHTS, _WEIGHTS),
    **damages.of(INDEX, _INDICES),
}


def read(path):
    """Returns the line that loading a checkpoint ends in, `{d}` for its directory."""
    try:
        models.load_model(str(path))
    except InputError as error:
        return damages.line_of(error, path)
    return 'accepted'
