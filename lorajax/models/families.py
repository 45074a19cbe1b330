"""The families of decoders that one transformer runs, each a row of constants.

What a family fixes is written here; everything else comes from its `config.json`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Family:
    """What all models of one `model_type` share.

    Attributes:
      architecture: the class in transformers, as `config.json` names it.
      traits: fields of `ModelConfig` that the family fixes.
      defaults: what transformers 5 takes for a field of `config.json` that is absent.
      window_pattern: which layers attend through the sliding window, repeated over the depth;
        empty if the family has none.
    """

    architecture: str
    traits: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    window_pattern: tuple[bool, ...] = ()


_GEMMA = {
    'norm_offset': True,
    'output_norms': True,
    'scale_embeddings': True,
    'mlp_activation': 'gelu_tanh',
}
_GEMMA_DEFAULTS = {'tie_word_embeddings': True, 'sliding_window': 4096, 'head_dim': 256}

# By HF's `model_type`. SmolLM, TinyLlama and many others say 'llama'.
FAMILIES = {
    'qwen2': Family('Qwen2ForCausalLM', {'qkv_bias': True}),
    'qwen3': Family('Qwen3ForCausalLM', {'qk_norm': True}, {'head_dim': 128}),
    'llama': Family('LlamaForCausalLM'),
    'mistral': Family(
        'MistralForCausalLM',
        defaults={'sliding_window': 4096, 'max_position_embeddings': 131072},
        window_pattern=(True,),
    ),
    'gemma2': Family(
        'Gemma2ForCausalLM',
        _GEMMA,
        {
            **_GEMMA_DEFAULTS,
            'attn_logit_softcapping': 50.0,
            'final_logit_softcapping': 30.0,
            'max_position_embeddings': 8192,
        },
        (True, False),
    ),
    'gemma3_text': Family(
        'Gemma3ForCausalLM',
        {**_GEMMA, 'qk_norm': True},
        {**_GEMMA_DEFAULTS, 'rope_theta': 1e6, 'max_position_embeddings': 131072},
        (True, True, True, True, True, False),
    ),
}
