"""Shapes of published models by name: what they need can be said without a network.

Only sizes stand here; what a family fixes comes from `families` by way of `config.from_hf`. Source:
each model's config.json on the hub.
"""

import re
from typing import NamedTuple

from lorajax.models.config import ModelConfig, from_hf


class _Row(NamedTuple):
    family: str
    width: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    tied: bool


_ROWS = {
    'Qwen2.5-0.5B': _Row('qwen2', 896, 24, 14, 2, 64, 4864, 151936, True),
    'Qwen2.5-1.5B': _Row('qwen2', 1536, 28, 12, 2, 128, 8960, 151936, True),
    'Qwen2.5-3B': _Row('qwen2', 2048, 36, 16, 2, 128, 11008, 151936, True),
    'Qwen2.5-7B': _Row('qwen2', 3584, 28, 28, 4, 128, 18944, 152064, False),
    'Qwen2.5-14B': _Row('qwen2', 5120, 48, 40, 8, 128, 13824, 152064, False),
    'Qwen2.5-32B': _Row('qwen2', 5120, 64, 40, 8, 128, 27648, 152064, False),
    'Qwen3-0.6B': _Row('qwen3', 1024, 28, 16, 8, 128, 3072, 151936, True),
    'Qwen3-4B': _Row('qwen3', 2560, 36, 32, 8, 128, 9728, 151936, True),
    'Qwen3-8B': _Row('qwen3', 4096, 36, 32, 8, 128, 12288, 151936, False),
    'Llama-3.2-1B': _Row('llama', 2048, 16, 32, 8, 64, 8192, 128256, True),
    'Llama-3.2-3B': _Row('llama', 3072, 28, 24, 8, 128, 8192, 128256, True),
    'Llama-3.1-8B': _Row('llama', 4096, 32, 32, 8, 128, 14336, 128256, False),
    'Llama-3.1-70B': _Row('llama', 8192, 80, 64, 8, 128, 28672, 128256, False),
    'SmolLM2-135M': _Row('llama', 576, 30, 9, 3, 64, 1536, 49152, True),
    'SmolLM2-1.7B': _Row('llama', 2048, 24, 32, 32, 64, 8192, 49152, True),
    'Mistral-7B-v0.1': _Row('mistral', 4096, 32, 32, 8, 128, 14336, 32000, False),
    'Mistral-7B-v0.3': _Row('mistral', 4096, 32, 32, 8, 128, 14336, 32768, False),
    'gemma-2-2b': _Row('gemma2', 2304, 26, 8, 4, 256, 9216, 256000, True),
    'gemma-2-9b': _Row('gemma2', 3584, 42, 16, 8, 256, 14336, 256000, True),
    'gemma-2-27b': _Row('gemma2', 4608, 46, 32, 16, 128, 36864, 256000, True),
    'gemma-3-1b': _Row('gemma3_text', 1152, 26, 4, 1, 256, 6912, 262144, True),
}
NAMES: tuple[str, ...] = tuple(_ROWS)
_TUNED = re.compile(r'-(instruct|it|pt|base)(?=-|$)')  # the same shapes, trained further


def find(name: str) -> ModelConfig | None:
    """Returns the shapes of a model that is known by name; None for others.

    Args:
      name: 'owner/name' as on the hub, of the model or a version that was trained further, such as
        '-Instruct' or '-it'. The owner may be any, since weights are uploaded again.
    """
    short = _TUNED.sub('', name.rpartition('/')[2].lower()).removeprefix('meta-')
    row = next((row for known, row in _ROWS.items() if known.lower() == short), None)
    if row is None:
        return None
    return from_hf(
        {
            'model_type': row.family,
            'hidden_size': row.width,
            'num_hidden_layers': row.depth,
            'num_attention_heads': row.heads,
            'num_key_value_heads': row.kv_heads,
            'head_dim': row.head_dim,
            'intermediate_size': row.mlp,
            'vocab_size': row.vocab,
            'tie_word_embeddings': row.tied,
        },
        name,
    )
