"""Checkpoints that must be refused, and the line for each.

A case is a function that damages a valid checkpoint of the tiny Qwen2 model in float32; `{d}` in
its line is the directory, and the safetensors package's own words for a damaged header, which
change between its releases, are left out.
"""

import json
import re

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import save

from lorajax import models
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.models import config as config_lib
from lorajax.models import presets
from lorajax.models.hf import checkpoint, export

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


def _config(**changes):
    """Returns a case: fields of the config are changed, or taken out if None is given."""

    def make(path):
        write_valid(path)
        raw = {**json.loads((path / CONFIG).read_text()), **changes}
        (path / CONFIG).write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))

    return make


def _text(file, text):
    """Returns a case: a file has this text."""

    def make(path):
        write_valid(path)
        (path / file).write_text(text)

    return make


def _without(file):
    def make(path):
        write_valid(path)
        (path / file).unlink()

    return make


def _pickled(path):
    write_valid(path)
    (path / WEIGHTS).rename(path / 'pytorch_model.bin')


def _tensors(change):
    """Returns a case: the tensors of the file are changed."""

    def make(path):
        write_valid(path)
        tensors = tensor_files.read(path / WEIGHTS)
        change(tensors)
        tensor_files.write(path / WEIGHTS, tensors)

    return make


def _bytes(change):
    """Returns a case: the bytes of the file are changed."""

    def make(path):
        write_valid(path)
        (path / WEIGHTS).write_bytes(change((path / WEIGHTS).read_bytes()))

    return make


def _foreign(change, dtype=np.float32):
    """Returns a case: a file of the safetensors package, without checksum, is changed."""

    def make(path):
        write_valid(path, dtype=dtype)
        data = save(tensor_files.read(path / WEIGHTS))
        (path / WEIGHTS).write_bytes(change(data))

    return make


def _edit_header(change):
    """Returns bytes -> the same with another header text."""

    def edit(data):
        length = int.from_bytes(data[:8], 'little')
        text = change(data[8 : 8 + length].decode().rstrip())
        return len(text).to_bytes(8, 'little') + text.encode() + data[8 + length :]

    return edit


def _entry(**changes):
    """Returns a case: fields of one tensor's entry in the header are changed."""

    def change(text):
        header = json.loads(text)
        header[TENSOR].update(changes)
        return json.dumps(header)

    return _foreign(_edit_header(change))


def _doubled(text):
    """Names a tensor twice."""
    return f'{text[:-1]}, "{TENSOR}": {json.dumps(json.loads(text)[TENSOR])}}}'


def _flip(position, bit):
    """Returns bytes -> the same with one bit flipped; positions below 0 count from the end."""

    def flip(data):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        return bytes(damaged)

    return flip


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


def _other_depth(path):
    write_valid(path)
    raw = json.loads((path / CONFIG).read_text())
    raw['num_hidden_layers'] += 1
    (path / CONFIG).write_text(json.dumps(raw))


CASES = {
    'no directory': (
        lambda path: None,
        '{d}: no such directory, and not a hub id (owner/name or owner/name@revision)',
    ),
    'no config.json': (
        _without(CONFIG),
        '{d}: holds no config.json, expected a model in HF format',
    ),
    'no weights': (
        _without(WEIGHTS),
        '{d}: holds neither model.safetensors nor model.safetensors.index.json',
    ),
    'pickle': (
        _pickled,
        '{d}/pytorch_model.bin: pickle weights are never loaded, expected safetensors',
    ),
    'config.json is no JSON': (
        _text(CONFIG, '{"model_type": '),
        '{d}/config.json: not valid JSON (Expecting value, column 16)',
    ),
    'config.json is a list': (
        _text(CONFIG, '[]'),
        '{d}/config.json: holds [], expected an object',
    ),
    'unknown family': (
        _config(model_type='gpt2'),
        "{d}/config.json: model_type is 'gpt2', expected 'qwen2' or 'qwen3' or 'llama' or "
        "'mistral' or 'gemma2' or 'gemma3_text'",
    ),
    'no family': (
        _config(model_type=None),
        "{d}/config.json: lacks model_type, expected 'qwen2' or 'qwen3' or 'llama' or "
        "'mistral' or 'gemma2' or 'gemma3_text'",
    ),
    'missing field': (
        _config(hidden_size=None),
        '{d}/config.json: lacks hidden_size, expected an integer from 1 to 2147483647',
    ),
    'width is text': (
        _config(hidden_size='64'),
        "{d}/config.json: hidden_size is '64', expected an integer from 1 to 2147483647",
    ),
    'no heads': (
        _config(num_attention_heads=0),
        '{d}/config.json: num_attention_heads is 0, expected an integer from 1 to 2147483647',
    ),
    'heads that do not divide': (
        _config(num_key_value_heads=3),
        '{d}/config.json: num_attention_heads 4 is not a multiple of num_key_value_heads 3',
    ),
    'epsilon is text': (
        _config(rms_norm_eps='x'),
        "{d}/config.json: rms_norm_eps is 'x', expected a number from 0 on",
    ),
    'theta 0': (
        _config(rope_theta=0),
        '{d}/config.json: rope_theta is 0, expected a positive number',
    ),
    'unknown RoPE scaling': (
        _config(rope_scaling={'rope_type': 'yarn', 'factor': 4.0}),
        "{d}/config.json: rope_type is 'yarn', expected 'default' or 'linear' or 'llama3'",
    ),
    'RoPE scaling without a field': (
        _config(rope_scaling={'rope_type': 'llama3', 'factor': 8.0}),
        '{d}/config.json: llama3 RoPE scaling lacks low_freq_factor, high_freq_factor, '
        'original_max_position_embeddings',
    ),
    'other activation': (
        _config(hidden_act='gelu'),
        "{d}/config.json: hidden_act is 'gelu', expected 'silu' or 'swish'",
    ),
    'sliding window': (
        _config(use_sliding_window=True),
        '{d}/config.json: use_sliding_window is true, expected false',
    ),
    'a boolean as text': (
        _config(tie_word_embeddings='false'),
        "{d}/config.json: tie_word_embeddings is 'false', expected true or false",
    ),
    'a boolean as number': (
        _config(tie_word_embeddings=1),
        '{d}/config.json: tie_word_embeddings is 1, expected true or false',
    ),
    'layers as true': (
        _config(num_hidden_layers=True),
        '{d}/config.json: num_hidden_layers is true, expected an integer from 1 to 2147483647',
    ),
    'epsilon beyond float32': (
        _config(rms_norm_eps=1e39),
        '{d}/config.json: rms_norm_eps is 1e+39, expected a number from 0 on',
    ),
    'layer types of a sliding window': (
        _config(layer_types=['full_attention', 'sliding_attention', 'full_attention']),
        '{d}/config.json: layer_types are full_attention and sliding_attention, expected '
        'full_attention',
    ),
    'layer types of another depth': (
        _config(layer_types=['full_attention']),
        '{d}/config.json: layer_types has 1 entries, expected num_hidden_layers, 3',
    ),
    'a part of the channels rotated': (
        _config(partial_rotary_factor=0.5),
        '{d}/config.json: partial_rotary_factor is 0.5, expected 1 or 1.0',
    ),
    'RoPE scaling is a list': (
        _config(rope_scaling=['llama3']),
        "{d}/config.json: rope_scaling is ['llama3'], expected an object",
    ),
    'RoPE frequencies in the wrong order': (
        _config(
            rope_scaling={
                'rope_type': 'llama3',
                'factor': 8.0,
                'low_freq_factor': 4.0,
                'high_freq_factor': 1.0,
                'original_max_position_embeddings': 64,
            }
        ),
        '{d}/config.json: high_freq_factor is 1.0, expected more than low_freq_factor, 4.0',
    ),
    'odd heads': (
        _config(head_dim=7),
        '{d}/config.json: head_dim is 7, expected a positive even number',
    ),
    'more layers than any machine could list': (
        _config(num_hidden_layers=2_000_000_000),
        '{d}: lacks tensor model.layers.3.input_layernorm.weight and 23999999963 more',
    ),
    'a width that no machine could hold': (
        _config(intermediate_size=2_000_000_000),
        '{d}/model.safetensors: model.layers.0.mlp.down_proj.weight is (32, 56), '
        'config.json says (32, 2000000000)',
    ),
    'quantized': (
        _config(quantization_config={'bits': 4}),
        "{d}/config.json: quantization_config is {'bits': 4}, expected none",
    ),
    'more layers than weights': (
        _other_depth,
        '{d}: lacks tensor model.layers.3.input_layernorm.weight and 11 more',
    ),
    'another width than the weights': (
        _config(intermediate_size=96),
        '{d}/model.safetensors: model.layers.0.mlp.down_proj.weight is (32, 56), '
        'config.json says (32, 96)',
    ),
    'truncated': (
        _bytes(lambda data: data[:-1000]),
        '{d}/model.safetensors: truncated, corrupt or not safetensors (118280 bytes)',
    ),
    'cut inside the header': (
        _bytes(lambda data: data[:300]),
        '{d}/model.safetensors: truncated, corrupt or not safetensors (300 bytes)',
    ),
    'empty file': (
        _bytes(lambda data: b''),
        '{d}/model.safetensors: truncated, corrupt or not safetensors (0 bytes)',
    ),
    'bytes left over': (
        _bytes(lambda data: data + bytes(16)),
        '{d}/model.safetensors: truncated, corrupt or not safetensors (119296 bytes)',
    ),
    'a bit of the header flipped': (
        _foreign(_flip(9, 1)),
        '{d}/model.safetensors: truncated, corrupt or not safetensors (119248 bytes)',
    ),
    'a bit of the header length flipped': (
        _foreign(_flip(2, 0)),
        '{d}/model.safetensors: truncated, corrupt or not safetensors (119248 bytes)',
    ),
    'a flip that makes infinity': (
        _foreign(_make_infinite, ml_dtypes.bfloat16),
        '{d}/model.safetensors: model.layers.0.mlp.up_proj.weight holds NaN or infinity',
    ),
    'offsets that overlap': (
        _entry(data_offsets=[0, 4 * 56 * 32]),
        '{d}/model.safetensors: truncated, corrupt or not safetensors (119564 bytes)',
    ),
    'offsets unlike the shape': (
        _entry(data_offsets=[0, 12]),
        '{d}/model.safetensors: truncated, corrupt or not safetensors (119562 bytes)',
    ),
    'unknown dtype': (
        _entry(dtype='F8_E4M3', shape=[4 * 56, 32]),
        '{d}/model.safetensors: model.layers.0.mlp.up_proj.weight has dtype F8_E4M3, expected '
        'one of F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL',
    ),
    'no shape': (
        _entry(shape=None),
        '{d}/model.safetensors: truncated, corrupt or not safetensors (119565 bytes)',
    ),
    'a name twice in the header': (
        _foreign(_edit_header(_doubled)),
        '{d}/model.safetensors: header: not valid JSON '
        "('model.layers.0.mlp.up_proj.weight' occurs twice in one object)",
    ),
    'wrong dtype': (
        _tensors(lambda t: t.update({TENSOR: t[TENSOR].astype(np.int32)})),
        '{d}/model.safetensors: model.layers.0.mlp.up_proj.weight is int32, expected one '
        'of float32, bfloat16, float16, float64',
    ),
    'wrong shape': (
        _tensors(lambda t: t.update({TENSOR: t[TENSOR].T})),
        '{d}/model.safetensors: model.layers.0.mlp.up_proj.weight is (32, 56), '
        'config.json says (56, 32)',
    ),
    'a missing tensor': (
        _tensors(lambda t: t.pop(TENSOR)),
        '{d}: lacks tensor model.layers.0.mlp.up_proj.weight',
    ),
    'an unknown tensor': (
        _tensors(lambda t: t.update(extra=t[TENSOR])),
        '{d}/model.safetensors: unknown tensor extra for qwen2',
    ),
    'a tensor under two names': (
        _tensors(lambda t: t.update({TENSOR.removeprefix('model.'): t[TENSOR]})),
        '{d}/model.safetensors: model.layers.0.mlp.up_proj.weight is also there as '
        'layers.0.mlp.up_proj.weight',
    ),
    'a layer too many': (
        _tensors(lambda t: t.update({TENSOR.replace('.0.', '.3.'): t[TENSOR]})),
        '{d}/model.safetensors: unknown tensor model.layers.3.mlp.up_proj.weight for qwen2',
    ),
    'the same layer by another number': (
        _tensors(lambda t: t.update({TENSOR.replace('.0.', '.00.'): t[TENSOR]})),
        '{d}/model.safetensors: unknown tensor model.layers.00.mlp.up_proj.weight for qwen2',
    ),
    'a number that the dtype of the weights cannot hold': (
        _tensors(lambda t: t.update({TENSOR: t[TENSOR].astype(np.float64) + 1e300})),
        '{d}/model.safetensors: model.layers.0.mlp.up_proj.weight holds a number that exceeds '
        'float32',
    ),
    'a tensor in two shards': (
        _in_two_shards,
        '{d}/model-00002-of-00007.safetensors: model.embed_tokens.weight is also in '
        'model-00001-of-00007.safetensors',
    ),
    'a shard that is not there': (
        _lost_shard,
        '{d}/model.safetensors.index.json: names model-00002-of-00007.safetensors, which '
        'is not there',
    ),
    'an index that names another shard': (
        _index(_point_elsewhere),
        '{d}/model.safetensors.index.json: model.layers.0.mlp.up_proj.weight is in '
        'model-00001-of-00007.safetensors, but model-00003-of-00007.safetensors '
        'holds it',
    ),
    'an index that names a tensor that no shard holds': (
        _index(lambda m, names: m.update(extra=names[0])),
        '{d}/model.safetensors.index.json: extra is in model-00001-of-00007.safetensors, '
        'which does not hold it',
    ),
    'an index that leaves the directory': (
        _index(lambda m, names: m.update({TENSOR: '../other.safetensors'})),
        '{d}/model.safetensors.index.json: model.layers.0.mlp.up_proj.weight is in '
        "'../other.safetensors', expected a file beside the index",
    ),
    'an index without its map': (
        _text(INDEX, '{}'),
        '{d}/model.safetensors.index.json: has no weight_map, expected the file of each tensor',
    ),
    'an index that is no JSON': (
        _text(INDEX, '{'),
        '{d}/model.safetensors.index.json: not valid JSON (Expecting property name '
        'enclosed in double quotes, column 2)',
    ),
}


def read(path):
    """Returns the line that loading a checkpoint ends in, `{d}` for its directory."""
    try:
        models.load_model(str(path))
    except InputError as error:
        return line_of(error, path)
    return 'accepted'


def line_of(error, path):
    """Returns a line of complaint with `{d}` for the directory, without the package's reason."""
    line = str(error).replace(str(path), '{d}')
    return re.sub(r'(corrupt or not safetensors): .* (\(\d+ bytes\))$', r'\1 \2', line)


def read_headers(path):
    """Returns the line that checking a checkpoint without reading its weights ends in."""
    try:
        checkpoint.find_tensors(path, config_lib.read(path))
    except InputError as error:
        return str(error).replace(str(path), '{d}')
    return 'accepted'
