"""Random checkpoints with the layer shapes of real models, written tensor by tensor.

The numbers are those of each model's config.json on the hub. Checked against two other sources:
widths, depths, heads, theta, epsilon and tying of all seven against google/tunix
(`models/qwen2/model.py`, `models/llama3/model.py`); widths, depths, heads, theta, and the frequency
scaling (factor 8 in Llama 3.1, 32 in 3.2) against Lightning-AI/litgpt (`litgpt/config.py`). That is
of the first seven; the others were written down without a second source.
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


def _qwen3(width, depth, heads, mlp, tied):
    raw = _qwen(width, depth, heads, 8, mlp, tied=tied)
    return {
        **raw, 'model_type': 'qwen3', 'architectures': ['Qwen3ForCausalLM'], 'head_dim': 128,
        'max_position_embeddings': 40960,
    }  # fmt: skip


def _smol(width, depth, heads, kv_heads, mlp, theta):
    return dict(
        model_type='llama', architectures=['LlamaForCausalLM'], vocab_size=49152,
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
        num_key_value_heads=kv_heads, intermediate_size=mlp, hidden_act='silu', rms_norm_eps=1e-5,
        rope_theta=theta, tie_word_embeddings=True, max_position_embeddings=8192,
    )  # fmt: skip


def _mistral(window, theta, vocab):
    return dict(
        model_type='mistral', architectures=['MistralForCausalLM'], vocab_size=vocab,
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        intermediate_size=14336, hidden_act='silu', rms_norm_eps=1e-5, rope_theta=theta,
        sliding_window=window, tie_word_embeddings=False, max_position_embeddings=32768,
    )  # fmt: skip


def _gemma2(width, depth, heads, kv_heads, head_dim, mlp, scalar):
    return dict(
        model_type='gemma2', architectures=['Gemma2ForCausalLM'], vocab_size=256000,
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=head_dim, intermediate_size=mlp,
        hidden_act='gelu_pytorch_tanh', hidden_activation='gelu_pytorch_tanh', rms_norm_eps=1e-6,
        rope_theta=1e4, query_pre_attn_scalar=scalar, sliding_window=4096,
        attn_logit_softcapping=50.0, final_logit_softcapping=30.0, max_position_embeddings=8192,
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
    'Llama-3.1-70B': _llama(8192, 80, 64, 128, 28672, 8.0, False),
    'Qwen2.5-14B': _qwen(5120, 48, 40, 8, 13824, vocab=152064, tied=False),
    'Qwen2.5-32B': _qwen(5120, 64, 40, 8, 27648, vocab=152064, tied=False),
    'SmolLM2-135M': _smol(576, 30, 9, 3, 1536, 1e5),
    'SmolLM2-1.7B': _smol(2048, 24, 32, 32, 8192, 130000.0),
    'Qwen3-0.6B': _qwen3(1024, 28, 16, 3072, True),
    'Qwen3-4B': _qwen3(2560, 36, 32, 9728, True),
    'Qwen3-8B': _qwen3(4096, 36, 32, 12288, False),
    'Mistral-7B-v0.1': _mistral(4096, 1e4, 32000),
    'Mistral-7B-v0.3': _mistral(None, 1e6, 32768),
    'gemma-2-2b': _gemma2(2304, 26, 8, 4, 256, 9216, 256),
    'gemma-2-9b': _gemma2(3584, 42, 16, 8, 256, 14336, 256),
    'gemma-2-27b': _gemma2(4608, 46, 32, 16, 128, 36864, 144),
    'gemma-3-1b': dict(
        model_type='gemma3_text', architectures=['Gemma3ForCausalLM'], vocab_size=262144,
        hidden_size=1152, num_hidden_layers=26, num_attention_heads=4, num_key_value_heads=1,
        head_dim=256, intermediate_size=6912, hidden_activation='gelu_pytorch_tanh',
        rms_norm_eps=1e-6, rope_theta=1e6, rope_local_base_freq=1e4, query_pre_attn_scalar=256,
        sliding_window=512, sliding_window_pattern=6, max_position_embeddings=32768,
    ),
}  # fmt: skip


def _tensor(name, spec, norm):
    """Draws a tensor whose scale makes small errors show, from its name alone.

    Embeddings are as small as real ones, so that the first norm's epsilon matters; queries and
    keys large enough for attention to look at few tokens; norms, around `norm`, and biases uneven.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(spec.shape, np.float32)
    if 'norm' in name:
        values = norm + 0.3 * values
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
    norm = 0.0 if config.norm_offset else 1.0
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
            directory / file, specs, lambda key, specs=specs: _tensor(key, specs[key], norm)
        )
    weight_map = {key: f for f, specs in zip(names, shards, strict=True) for key in specs}
    index = directory / 'model.safetensors.index.json'
    index.write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
    raw['torch_dtype'] = np.dtype(dtype).name
    (directory / 'config.json').write_text(json.dumps(raw))
    return config
