"""Random checkpoints with the layer shapes of real models, written tensor by tensor.

The numbers are those of each model's config.json on the hub. Checked against two other sources:
widths, depths, heads, theta, epsilon and tying of all seven against google/tunix
(`models/qwen2/model.py`, `models/llama3/model.py`); widths, depths, heads, theta, and the frequency
scaling (factor 8 in Llama 3.1, 32 in 3.2) against Lightning-AI/litgpt (`litgpt/config.py`).
"""

import json
import pathlib
import zlib

import ml_dtypes
import numpy as np

from lorajax.io import tensor_files
from lorajax.models import config as config_lib
from lorajax.models.hf import names as hf_names


def _qwen(width, depth, heads, kv_heads, mlp, vocab=151936, tied=True):
    return dict(
        model_type='qwen2', architectures=['Qwen2ForCausalLM'], vocab_size=vocab,
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
        num_key_value_heads=kv_heads, intermediate_size=mlp, hidden_act='silu', rms_norm_eps=1e-6,
        rope_theta=1e6, tie_word_embeddings=tied, max_position_embeddings=32768,
        use_sliding_window=False,
    )  # fmt: skip


def _llama(width, depth, heads, head_dim, mlp, factor, tied):
    scaling = dict(rope_type='llama3', factor=factor, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=8192)  # fmt: skip
    return dict(
        model_type='llama', architectures=['LlamaForCausalLM'], vocab_size=128256,
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
        num_key_value_heads=8, head_dim=head_dim, intermediate_size=mlp, hidden_act='silu',
        rms_norm_eps=1e-5, rope_theta=5e5, rope_scaling=scaling, tie_word_embeddings=tied,
        max_position_embeddings=131072, attention_bias=False, mlp_bias=False,
    )  # fmt: skip


REAL = {
    'Qwen2.5-0.5B': _qwen(896, 24, 14, 2, 4864),
    'Qwen2.5-1.5B': _qwen(1536, 28, 12, 2, 8960),
    'Qwen2.5-3B': _qwen(2048, 36, 16, 2, 11008),
    'Qwen2.5-7B': _qwen(3584, 28, 28, 4, 18944, vocab=152064, tied=False),
    'Llama-3.2-1B': _llama(2048, 16, 32, 64, 8192, 32.0, True),
    'Llama-3.2-3B': _llama(3072, 28, 24, 128, 8192, 32.0, True),
    'Llama-3.1-8B': _llama(4096, 32, 32, 128, 14336, 8.0, False),
}


def _tensor(name, spec):
    """Draws a tensor whose scale makes small errors show, from its name alone.

    Embeddings are as small as real ones, so that the first norm's epsilon matters; queries and
    keys large enough for attention to look at few tokens; norms and biases uneven.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(spec.shape, np.float32)
    if 'norm' in name:
        values = 1.0 + 0.3 * values
    elif name.endswith('bias'):
        values *= 0.5
    elif 'embed' in name:
        values *= 0.02
    else:
        gain = 1.5 if 'q_proj' in name or 'k_proj' in name else 1.0
        values *= gain * spec.shape[1] ** -0.5
    return values.astype(spec.dtype)


def write(directory, name, dtype=ml_dtypes.bfloat16, shard_bytes=2_000_000_000, **overrides):
    """Writes a checkpoint in HF format; one tensor is in memory at a time.

    Args:
      directory: must exist.
      name: a key of `REAL`.
      dtype: of the files; torch and JAX read bfloat16 values into float32 without loss.
      shard_bytes: size from which a new shard is begun.
      **overrides: other values for config.json, such as num_hidden_layers.
    """
    directory = pathlib.Path(directory)
    raw = {**REAL[name], **overrides}
    config = config_lib.from_hf(raw)
    shapes = hf_names.tensor_shapes(config)
    shards, size = [{}], 0
    for key, (path, _) in hf_names.table(config):
        spec = tensor_files.Spec(np.dtype(dtype), shapes[path])
        num_bytes = int(np.prod(spec.shape)) * spec.dtype.itemsize
        if size and size + num_bytes > shard_bytes:
            shards, size = [*shards, {}], 0
        shards[-1][key] = spec
        size += num_bytes
    names = [f'model-{i:05d}-of-{len(shards):05d}.safetensors' for i in range(1, len(shards) + 1)]
    for file, specs in zip(names, shards, strict=True):
        tensor_files.write_each(
            directory / file, specs, lambda key, specs=specs: _tensor(key, specs[key])
        )
    weight_map = {key: f for f, specs in zip(names, shards, strict=True) for key in specs}
    index = directory / 'model.safetensors.index.json'
    index.write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
    raw['torch_dtype'] = np.dtype(dtype).name
    (directory / 'config.json').write_text(json.dumps(raw))
    return config
