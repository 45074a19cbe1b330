"""Functional LoRA: adapters as trees of their own, beside the base weights."""

from lorajax.lora.config import TARGETS, LoraConfig
from lorajax.lora.delta import delta_weight, low_rank_delta, merge, unmerge
from lorajax.lora.peft import PeftAdapter, load_peft, save_peft
from lorajax.lora.tree import fold_scale, init_adapter, pad_rank, stack, unstack

__all__ = [
    'TARGETS',
    'LoraConfig',
    'PeftAdapter',
    'delta_weight',
    'fold_scale',
    'init_adapter',
    'load_peft',
    'low_rank_delta',
    'merge',
    'pad_rank',
    'save_peft',
    'stack',
    'unmerge',
    'unstack',
]
