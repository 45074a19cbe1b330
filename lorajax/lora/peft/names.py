"""Names of files and tensors in PEFT format."""

import re

from lorajax.lora.config import TARGETS, Factor, Module, module_name

CONFIG_FILE = 'adapter_config.json'
WEIGHTS_FILE = 'adapter_model.safetensors'
PICKLE_FILE = 'adapter_model.bin'  # of peft before 0.5, never read

# With and without the prefixes of PeftModel and of the causal language model.
_FACTOR = re.compile(
    r'(?:base_model\.model\.)?((?:model\.)?)layers\.([0-9]{1,9})\.'
    rf'(?:self_attn\.({"|".join(TARGETS[:4])})|mlp\.({"|".join(TARGETS[4:])}))'
    r'\.lora_([AB])(?:\.default)?\.weight'
)


def parse(name: str) -> tuple[str, Factor] | None:
    """Returns what a tensor's name says.

    Returns:
      'model.' or '', the prefix of the base model's module names; and the factor. None if the
      name is not that of a factor of a projection.
    """
    match = _FACTOR.fullmatch(name)
    if match is None:
        return None
    prefix, layer, attention, mlp, factor = match.groups()
    return prefix, (attention or mlp, int(layer), factor)


def tensor_name(factor: Factor) -> str:
    """Returns the name that peft gives a factor."""
    return f'base_model.model.{module_name(*factor[:2])}.lora_{factor[2]}.weight'


def bare_name(module: Module) -> str:
    """Returns a module's name in the decoder without its head."""
    return module_name(*module).removeprefix('model.')
