"""Presets and extra tensor names of the Qwen2 family (Qwen2 and Qwen2.5)."""

from lorajax.models.config import ModelConfig

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
TINY = ModelConfig(
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

# HF name below `model.layers.<i>.` -> our path below `layers/`.
EXTRA_LAYER_NAMES = {
    'self_attn.q_proj.bias': 'q_proj/bias',
    'self_attn.k_proj.bias': 'k_proj/bias',
    'self_attn.v_proj.bias': 'v_proj/bias',
}
