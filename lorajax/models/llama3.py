"""Presets of the Llama family (3, 3.1, 3.2)."""

from lorajax.models.config import ModelConfig, RopeScaling

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
TINY = ModelConfig(
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

EXTRA_LAYER_NAMES: dict[str, str] = {}
