"""Presets: the two 3B models, and a tiny one of each family for tests."""

import dataclasses

from lorajax.models.config import ModelConfig, RopeScaling

# https://huggingface.co/Qwen/Qwen2.5-3B-Instruct, config.json.
QWEN2_5_3B = ModelConfig(
    family='qwen2',
    vocab_size=151936,
    num_layers=36,
    embed_dim=2048,
    num_heads=16,
    num_kv_heads=2,
    head_dim=128,
    mlp_dim=11008,
    norm_eps=1e-6,
    rope_theta=1e6,
    qkv_bias=True,
    tie_embeddings=True,
    max_positions=32768,
)

# For tests: every mechanism of the family, seconds on a CPU.
QWEN2_TINY = ModelConfig(
    family='qwen2',
    vocab_size=97,
    num_layers=3,
    embed_dim=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=56,
    norm_eps=1e-6,
    rope_theta=1e6,
    qkv_bias=True,
    tie_embeddings=True,
)

# https://huggingface.co/meta-llama/Llama-3.2-3B-Instruct, config.json. Without the frequency
# scaling, or with an epsilon of 1e-6, a port loads, talks and is wrong.
LLAMA3_2_3B = ModelConfig(
    family='llama',
    vocab_size=128256,
    num_layers=28,
    embed_dim=3072,
    num_heads=24,
    num_kv_heads=8,
    head_dim=128,
    mlp_dim=8192,
    norm_eps=1e-5,
    rope_theta=5e5,
    rope_scaling=RopeScaling(32.0, 1.0, 4.0, 8192),
    tie_embeddings=True,
    max_positions=131072,
)

# For tests: every mechanism of the family, seconds on a CPU. The short original context puts
# all three bands of the frequency scaling within reach of a few dozen tokens.
LLAMA3_TINY = ModelConfig(
    family='llama',
    vocab_size=89,
    num_layers=2,
    embed_dim=48,
    num_heads=6,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=64,
    norm_eps=1e-5,
    rope_theta=5e5,
    rope_scaling=RopeScaling(32.0, 1.0, 4.0, 64),
    tie_embeddings=False,
)

# For tests, as above; the windows are short enough to bite within a few tokens.
_TINY = ModelConfig(
    family='llama',
    vocab_size=89,
    num_layers=3,
    embed_dim=48,
    num_heads=6,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=64,
    norm_eps=1e-6,
    rope_theta=1e4,
)
QWEN3_TINY = dataclasses.replace(_TINY, family='qwen3', qk_norm=True, rope_theta=1e6)
MISTRAL_TINY = dataclasses.replace(
    _TINY, family='mistral', sliding_window=5, window_pattern=(True,)
)
GEMMA2_TINY = dataclasses.replace(
    _TINY,
    family='gemma2',
    tie_embeddings=True,
    norm_offset=True,
    output_norms=True,
    scale_embeddings=True,
    mlp_activation='gelu_tanh',
    query_scalar=24,
    attention_softcap=50.0,
    logit_softcap=30.0,
    sliding_window=5,
    window_pattern=(True, False),
)
GEMMA3_TINY = dataclasses.replace(
    GEMMA2_TINY,
    family='gemma3_text',
    qk_norm=True,
    rope_theta=1e6,
    rope_factor=8.0,
    local_rope_theta=1e4,
    attention_softcap=None,
    logit_softcap=None,
    window_pattern=(True, True, False),
)
TINY = {
    preset.family: preset
    for preset in (
        QWEN2_TINY,
        QWEN3_TINY,
        LLAMA3_TINY,
        MISTRAL_TINY,
        GEMMA2_TINY,
        GEMMA3_TINY,
    )
}
