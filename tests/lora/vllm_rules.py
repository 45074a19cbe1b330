"""What vLLM asks of an adapter on disk, as its loader does it, without vLLM.

Source: vllm/lora/peft_helper.py (fields and scale) and utils.py (names of tensors). Rank and alpha
patterns are ignored here, as by releases before those that read them (0.33.0 does).
"""

import json
import math
import pathlib

import numpy as np

from lorajax.io import tensor_files

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of its option max_lora_rank
MODULES = {'q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'}
PREFIX = 'base_model.model.'


def load(directory):
    """Returns the update that vLLM would add to each module, float64[in, out] by name.

    Fails with an assertion where vLLM refuses, or would compute something else without a word.
    """
    directory = pathlib.Path(directory)
    config = json.loads((directory / 'adapter_config.json').read_text())
    rank, alpha = config['r'], config['lora_alpha']  # required, with target_modules
    assert type(rank) is int and 0 < rank <= max(RANKS)
    assert isinstance(config['target_modules'], list | str)
    assert not config.get('modules_to_save') and not config.get('use_dora')
    assert config.get('bias', 'none') == 'none'
    scale = alpha / math.sqrt(rank) if config.get('use_rslora') else alpha / rank
    factors = {}
    for name, value in tensor_files.read(directory / 'adapter_model.safetensors').items():
        assert name.startswith(PREFIX), name
        *module, factor, leaf = name.removeprefix(PREFIX).split('.')
        assert leaf == 'weight' and factor in ('lora_A', 'lora_B'), name
        assert module[-1] in MODULES, name
        factors.setdefault('.'.join(module), {})[factor] = value.astype(np.float64)
    updates = {}
    for module, pair in factors.items():
        a, b = pair['lora_A'], pair['lora_B']
        assert len(a) == b.shape[1] == rank, f'{module} has rank {len(a)}, the config {rank}'
        updates[module] = scale * (b @ a).T
    return updates
