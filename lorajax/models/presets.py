"""Presets of both families: the two 3B models, and a tiny one of each for tests."""

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
