"""Functional LoRA: adapters as trees of their own, beside the base weights."""

from lorajax.lora.config import TARGETS, LoraConfig
from lorajax.lora.delta import delta_weight, low_rank_delta, merge, pad_rank, unmerge
from lorajax.lora.peft.files import load_peft, save_peft
from lorajax.lora.tree import init_adapter, stack, unstack, zero_adapter_like

__all__ = [
    'TARGETS',
    'LoraConfig',
    'delta_weight',
    'init_adapter',
    'load_peft',
    'low_rank_delta',
    'merge',
    'pad_rank',
    'save_peft',
    'stack',
    'unmerge',
    'unstack',
    'zero_adapter_like',
]
