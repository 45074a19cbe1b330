"""Adapters in PEFT format: a directory with adapter_config.json and adapter_model.safetensors.

PEFT stores `lora_A` as [R, in] and `lora_B` as [out, R] per layer, and the scale alpha / rank in
the config. Here they are `a` [L, in, R] and `b` [L, R, out] with the scale folded into `b`, so a
tree alone says what it does to a model.

What a round trip keeps: files read and written again are the same, tensors bit for bit with their
names and dtypes, and the same settings. Trees written and read again are the same bit for bit if
`b` was ever multiplied by that scale, or the scale is a power of two; otherwise to the last bit
but one, since no float32 times the scale need be the tree's `b`.
"""

from lorajax.lora.peft.adapter import PeftAdapter
from lorajax.lora.peft.names import CONFIG_FILE, WEIGHTS_FILE
from lorajax.lora.peft.read import load_peft
from lorajax.lora.peft.write import DTYPES, save_peft

__all__ = [
    'CONFIG_FILE',
    'DTYPES',
    'WEIGHTS_FILE',
    'PeftAdapter',
    'load_peft',
    'save_peft',
]
