"""Tiny random checkpoints of `transformers`, the independent reference of the ports."""

import torch
import transformers

_SCALING = dict(
    rope_type='llama3', factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)  # fmt: skip
_GEMMA = dict(rms_norm_eps=1e-6, head_dim=16, query_pre_attn_scalar=24, sliding_window=7)
# What each family has beside the sizes; windows are short, so that they bite.
FAMILIES = {
    'qwen2': dict(rms_norm_eps=1e-6, rope_theta=1e6),
    'qwen3': dict(rms_norm_eps=1e-6, rope_theta=1e6, head_dim=16),
    'llama': dict(rms_norm_eps=1e-5, rope_parameters=dict(_SCALING, rope_theta=5e5)),
    'mistral': dict(rms_norm_eps=1e-5, rope_theta=1e4, head_dim=16, sliding_window=7),
    'gemma2': dict(_GEMMA, rope_theta=1e4, final_logit_softcapping=4.0, attn_logit_softcapping=3.0),
    'gemma3_text': dict(
        _GEMMA, sliding_window_pattern=3, rope_theta=1e6, rope_local_base_freq=1e4,
        rope_scaling=dict(rope_type='linear', factor=8.0),
    ),
}  # fmt: skip


def make(directory, family, tied=True, **overrides):
    """Writes a random HF checkpoint and returns the torch model.

    Weights are scaled up and norms and biases made uneven, so that a wrong constant shows.
    """
    common = dict(
        vocab_size=101, hidden_size=48, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, intermediate_size=80, tie_word_embeddings=tied,
        max_position_embeddings=32768, attention_dropout=0.0, initializer_range=0.15,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    common.update(FAMILIES[family])
    config = transformers.AutoConfig.for_model(family, **{**common, **overrides})
    cls = transformers.AutoModelForCausalLM
    torch.manual_seed(0)
    # sdpa cannot cap scores.
    model = cls.from_config(config, attn_implementation='eager').eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if 'norm' in name:
                centre = 0.0 if family.startswith('gemma') else 1.0
                value.copy_(centre + 0.3 * torch.randn_like(value))
            elif name.endswith('bias'):
                value.copy_(0.5 * torch.randn_like(value))
    model.save_pretrained(directory)
    return model


def assert_same_state(first, second):
    """Two torch models have the same tensors, bit for bit and of the same dtypes."""
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype and torch.equal(ours[name], value), name
