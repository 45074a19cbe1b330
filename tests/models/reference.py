"""Tiny random checkpoints of `transformers`, the independent reference of the ports."""

import torch
import transformers


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
    if family == 'qwen2':
        common.update(rms_norm_eps=1e-6, rope_theta=1e6)
        config = transformers.Qwen2Config(**{**common, **overrides})
        cls = transformers.Qwen2ForCausalLM
    else:
        scaling = dict(
            rope_type='llama3', factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=64,
        )  # fmt: skip
        common.update(
            rms_norm_eps=1e-5,
            rope_theta=5e5,
            rope_parameters=dict(scaling, rope_theta=5e5),
        )
        config = transformers.LlamaConfig(**{**common, **overrides})
        cls = transformers.LlamaForCausalLM
    torch.manual_seed(0)
    model = cls(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if 'norm' in name:
                value.copy_(1.0 + 0.3 * torch.randn_like(value))
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
