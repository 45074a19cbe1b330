"""The table between Hugging Face tensor names and paths in the parameter tree.

Read forwards it loads a checkpoint, read backwards it writes one.
"""

import re
from typing import NamedTuple

from lorajax.models.config import ModelConfig


class Target(NamedTuple):
    """Where a tensor goes: path in our tree, layer (None if not stacked), transposed or not."""

    path: str
    layer: int | None
    transpose: bool


# HF name -> our path. Two-dimensional weights below a layer are [out, in] there and [in, out]
# here, except the embedding, which is [V, D] in both.
_TOP = {
    'model.embed_tokens.weight': 'embed/embedding',
    'model.norm.weight': 'final_norm/scale',
    'lm_head.weight': 'lm_head/kernel',
}
_LAYER = {
    'input_layernorm.weight': 'input_norm/scale',
    'post_attention_layernorm.weight': 'post_attention_norm/scale',
    'self_attn.q_proj.weight': 'q_proj/kernel',
    'self_attn.k_proj.weight': 'k_proj/kernel',
    'self_attn.v_proj.weight': 'v_proj/kernel',
    'self_attn.o_proj.weight': 'o_proj/kernel',
    'mlp.gate_proj.weight': 'gate_proj/kernel',
    'mlp.up_proj.weight': 'up_proj/kernel',
    'mlp.down_proj.weight': 'down_proj/kernel',
}
# What only one family has.
_EXTRA: dict[str, dict[str, str]] = {
    'qwen2': {
        'self_attn.q_proj.bias': 'q_proj/bias',
        'self_attn.k_proj.bias': 'k_proj/bias',
        'self_attn.v_proj.bias': 'v_proj/bias',
    },
    'llama': {},
}

# Buffers that old checkpoints carry and that follow from the config.
_IGNORED = re.compile(r'model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq')


def is_ignored(name: str, config: ModelConfig) -> bool:
    """Says whether a checkpoint may hold this tensor without our needing it."""
    is_tied_copy = config.tie_embeddings and name == 'lm_head.weight'
    return is_tied_copy or _IGNORED.fullmatch(name) is not None


def table(config: ModelConfig) -> dict[str, Target]:
    """Returns every tensor that a checkpoint of this config must hold, by HF name."""
    rows = {}
    for name, path in _TOP.items():
        if name == 'lm_head.weight' and config.tie_embeddings:
            continue
        rows[name] = Target(path, None, transpose=path.endswith('kernel'))
    for layer in range(config.num_layers):
        for name, path in {**_LAYER, **_EXTRA[config.family]}.items():
            target = Target(f'layers/{path}', layer, transpose=path.endswith('kernel'))
            rows[f'model.layers.{layer}.{name}'] = target
    return rows


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every leaf of the parameter tree, by path."""
    c, depth = config, config.num_layers
    result: dict[str, tuple[int, ...]] = {
        'embed/embedding': (c.vocab_size, c.embed_dim),
        'final_norm/scale': (c.embed_dim,),
        'layers/input_norm/scale': (depth, c.embed_dim),
        'layers/post_attention_norm/scale': (depth, c.embed_dim),
    }
    if not c.tie_embeddings:
        result['lm_head/kernel'] = (c.embed_dim, c.vocab_size)
    for name, (fan_in, fan_out) in c.projections.items():
        result[f'layers/{name}/kernel'] = (depth, fan_in, fan_out)
        if c.qkv_bias and name in ('q_proj', 'k_proj', 'v_proj'):
            result[f'layers/{name}/bias'] = (depth, fan_out)
    return result
