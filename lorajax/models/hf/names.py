"""The table between Hugging Face tensor names and paths in the parameter tree.

Read forwards it loads a checkpoint, read backwards it writes one. Tensors keep the files' own
order of axes: kernels are [out, in], embedding and head [V, D].
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import NamedTuple

from lorajax.models.config import ModelConfig


class Target(NamedTuple):
    """Where a tensor goes: path in our tree, and layer (None if it is not stacked)."""

    path: str
    layer: int | None


EMBEDDING = Target('embed/embedding', None)
HEAD = Target('lm_head/kernel', None)

# HF name -> our path.
_TOP = {
    'model.embed_tokens.weight': EMBEDDING.path,
    'model.norm.weight': 'final_norm/scale',
    'lm_head.weight': HEAD.path,
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
# Norms beside those of Llama. Gemma's `post_attention_layernorm` is behind the attention, and what
# Llama calls so is its `pre_feedforward_layernorm`.
_QK_NORMS = {f'self_attn.{name}_norm.weight': f'{name}_norm/scale' for name in 'qk'}
_OUTPUT_NORMS = {
    'post_attention_layernorm.weight': 'attention_output_norm/scale',
    'pre_feedforward_layernorm.weight': 'post_attention_norm/scale',
    'post_feedforward_layernorm.weight': 'mlp_output_norm/scale',
}
_BIASES = {f'self_attn.{name}.bias': f'{name}/bias' for name in ('q_proj', 'k_proj', 'v_proj')}

_IN_LAYER = re.compile(r'model\.layers\.(0|[1-9][0-9]{0,8})\.(.+)')
# What old checkpoints carry beside weights: it follows from the config, and transformers does
# not look at it either.
_BUFFER = re.compile(r'(.+\.)?(rotary_emb\.(inv_freq|cos_cached|sin_cached)|masked_bias)')


def is_buffer(name: str) -> bool:
    """Returns whether a checkpoint may hold this tensor without our needing it."""
    return _BUFFER.fullmatch(name) is not None


def find(name: str, config: ModelConfig) -> Target | None:
    """Returns where a tensor goes, None for a name that this config has no place for.

    Args:
      name: in a checkpoint of the whole model, or of the decoder without its head, whose names
        lack the leading 'model.'.
      config: of the model; a head is found for tied embeddings too, since files may hold one.
    """
    if not name.startswith(('model.', 'lm_head.')):
        name = f'model.{name}'
    if name in _TOP:
        return Target(_TOP[name], None)
    match = _IN_LAYER.fullmatch(name)
    path = _layer_rows(config).get(match[2]) if match else None
    if match is None or path is None or int(match[1]) >= config.num_layers:
        return None
    return Target(f'layers/{path}', int(match[1]))


def table(config: ModelConfig) -> Iterator[tuple[str, Target]]:
    """Yields HF name and place of every tensor that a checkpoint of this config must hold.

    One after the other, since the number of layers may be what a damaged file says it is.
    """
    for name, path in _TOP.items():
        if path != HEAD.path or not config.tie_embeddings:
            yield name, Target(path, None)
    rows = _layer_rows(config)
    for layer in range(config.num_layers):
        for name, path in rows.items():
            yield f'model.layers.{layer}.{name}', Target(f'layers/{path}', layer)


def num_tensors(config: ModelConfig) -> int:
    """Returns how many rows `table` has."""
    top = len(_TOP) - config.tie_embeddings
    return top + config.num_layers * len(_layer_rows(config))


def _layer_rows(config: ModelConfig) -> dict[str, str]:
    """Returns our path by HF name within a layer."""
    rows = dict(_LAYER)
    for has_more, more in (
        (config.qkv_bias, _BIASES),
        (config.qk_norm, _QK_NORMS),
        (config.output_norms, _OUTPUT_NORMS),
    ):
        rows |= more if has_more else {}
    return rows


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every leaf of the parameter tree, by path."""
    c, depth = config, config.num_layers
    result: dict[str, tuple[int, ...]] = {
        EMBEDDING.path: (c.vocab_size, c.embed_dim),
        'final_norm/scale': (c.embed_dim,),
        'layers/input_norm/scale': (depth, c.embed_dim),
        'layers/post_attention_norm/scale': (depth, c.embed_dim),
    }
    for name in ('attention_output_norm', 'mlp_output_norm') if c.output_norms else ():
        result[f'layers/{name}/scale'] = (depth, c.embed_dim)
    for name in ('q_norm', 'k_norm') if c.qk_norm else ():
        result[f'layers/{name}/scale'] = (depth, c.head_dim)
    if not c.tie_embeddings:
        result[HEAD.path] = (c.vocab_size, c.embed_dim)
    for name, (fan_in, fan_out) in c.projections.items():
        result[f'layers/{name}/kernel'] = (depth, fan_out, fan_in)
        if c.qkv_bias and name in ('q_proj', 'k_proj', 'v_proj'):
            result[f'layers/{name}/bias'] = (depth, fan_out)
    return result


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of one tensor of a checkpoint by its path; a head counts as untied."""
    whole = shapes(dataclasses.replace(config, tie_embeddings=False))
    return {
        path: shape[1:] if path.startswith('layers/') else shape for path, shape in whole.items()
    }
