"""Adapters made by peft on tiny models, read here, written again, compared with peft."""

import copy
import json

import numpy as np
import peft
import torch

from lorajax import lora, models
from lorajax.io import tensor_files
from lorajax.lora.peft import scale
from tests.models import reference

ALL = list(lora.TARGETS)
CONFIGS = {
    'plain, r 16, alpha 32': dict(r=16, lora_alpha=32, target_modules=ALL),
    'two targets, r 3, alpha 5': dict(r=3, lora_alpha=5, target_modules=['q_proj', 'v_proj']),
    'rsLoRA, r 12, alpha 20': dict(r=12, lora_alpha=20, target_modules=ALL, use_rslora=True),
    'rank and alpha patterns': dict(
        r=4, lora_alpha=9, target_modules=ALL,
        rank_pattern={'layers.1.self_attn.q_proj': 2, 'down_proj': 7},
        alpha_pattern={'down_proj': 32, r'layers\.[12]\.mlp\.up_proj': 5},
    ),
    'expression, layers 0 and 2': dict(
        r=6, lora_alpha=10, target_modules=r'.*layers\.[02]\..*\.(up|down|k)_proj'
    ),
    'expression, uneven layers': dict(
        r=5, lora_alpha=3, target_modules=r'.*(0\.self_attn\.q_proj|1\.mlp\.up_proj)'
    ),
    'layers_to_transform, exclude_modules': dict(
        r=4, lora_alpha=6, target_modules=ALL, layers_to_transform=[0, 2],
        exclude_modules=['up_proj'],
    ),
    'all-linear, bfloat16': dict(
        r=6, lora_alpha=7, target_modules='all-linear', dtype=torch.bfloat16
    ),
    'all-linear, float16': dict(
        r=6, lora_alpha=7, target_modules='all-linear', dtype=torch.float16
    ),
    'names without the head, r 3, alpha 4': dict(
        r=3, lora_alpha=4, target_modules=ALL, is_bare=True
    ),
}  # fmt: skip


def write_with_peft(directory, base, dtype=torch.float32, is_bare=False, size=0.3, **options):
    """Wraps a torch model, makes its factors random of a size, saves the adapter in a dtype.

    With `is_bare` the decoder is wrapped without its head, as for embeddings.

    Returns a function from tokens to logits in float32.
    """
    base = copy.deepcopy(base)
    wrapped = peft.get_peft_model(base.model if is_bare else base, peft.LoraConfig(**options))
    generator = torch.Generator().manual_seed(1)
    factors = [value for name, value in wrapped.named_parameters() if 'lora_' in name]
    with torch.no_grad():
        for value in factors:
            drawn = size * torch.randn(value.shape, generator=generator)
            value.copy_(drawn.to(dtype).float())
    for value in factors:
        value.data = value.data.to(dtype)
    wrapped.save_pretrained(directory)
    for value in factors:
        value.data = value.data.float()

    def logits(tokens):
        with torch.no_grad():
            output = wrapped.eval()(torch.tensor(tokens.astype(np.int64)))
            found = base.lm_head(output.last_hidden_state) if is_bare else output.logits
            return found.numpy()

    return logits


def same_files(first, second):
    """Returns whether two adapters have the same tensors: names, dtypes and bits."""
    before, after = (
        tensor_files.read(path / 'adapter_model.safetensors') for path in (first, second)
    )
    return before.keys() == after.keys() and all(
        value.dtype == after[name].dtype and value.tobytes() == after[name].tobytes()
        for name, value in before.items()
    )


def same_trees(first, second):
    """Returns whether two adapters have the same projections and bits."""
    return first['layers'].keys() == second['layers'].keys() and all(
        np.asarray(leaf).tobytes() == np.asarray(second['layers'][name][key]).tobytes()
        for name, entry in first['layers'].items()
        for key, leaf in entry.items()
    )


def relative(actual, expected):
    """Returns the largest difference over the largest value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def units(first, second):
    """Returns by how many units in the last place two adapters differ, at most."""
    return max(
        int(np.abs(leaf.view(np.int32) - second['layers'][name][key].view(np.int32)).max())
        for name, entry in first['layers'].items()
        for key, leaf in entry.items()
    )


def random_tree(adapter, config, is_scaled):
    """Returns normally distributed numbers where an adapter has some.

    With `is_scaled`, `b` is multiplied by the scale, as that of every adapter that was trained
    here; without, it is any float32.
    """
    rng = np.random.default_rng(1)
    layers = {}
    for projection, entry in adapter['layers'].items():
        drawn = {
            key: np.where(leaf, rng.normal(0, 0.3, leaf.shape), 0).astype(np.float32)
            for key, leaf in entry.items()
        }
        if is_scaled:
            for layer in range(len(drawn['b'])):
                factor = config.scale_of(projection, layer)
                drawn['b'][layer] = scale.fold(drawn['b'][layer], factor)
        layers[projection] = drawn
    return {'layers': layers}


def measure(root, family, name):
    """Takes one adapter both ways.

    Returns whether peft -> lorajax -> peft keeps all bits and settings, and whether
    lorajax -> peft -> lorajax does, for a tree whose `b` was multiplied by the scale; by how many
    units in the last place it changes a tree of any numbers; how far logits are from peft's each
    way, and how much the adapters change them.
    """
    options = CONFIGS[name]
    base = reference.make(root / 'base', family)
    logits = write_with_peft(root / 'adapter', base, **options)
    tokens = np.random.default_rng(0).integers(3, 101, (2, 12)).astype(np.int32)
    expected = logits(tokens)
    model = models.load_model(str(root / 'base'))
    config, adapter = lora.load_peft(root / 'adapter', model.config.num_layers)
    read = np.asarray(model.logits(tokens, adapter=adapter))
    lora.save_peft(root / 'back', config, adapter)

    mine, other = (random_tree(adapter, config, is_scaled) for is_scaled in (True, False))
    again = []
    for path, tree in ((root / 'mine', mine), (root / 'other', other)):
        lora.save_peft(path, config, tree)
        again.append(lora.load_peft(path, model.config.num_layers))
    wrapped = peft.PeftModel.from_pretrained(
        base.model if options.get('is_bare') else base, root / 'mine'
    ).eval()
    with torch.no_grad():
        output = wrapped(torch.tensor(tokens.astype(np.int64)))
        theirs = base.lm_head(output.last_hidden_state) if options.get('is_bare') else output.logits
    settings = [
        json.loads((root / path / 'adapter_config.json').read_text())
        for path in ('adapter', 'back')
    ]
    return {
        'same_files': same_files(root / 'adapter', root / 'back'),
        'same_settings': settings[0] == {key: settings[1][key] for key in settings[0]},
        'same_trees': same_trees(mine, again[0][1]) and again[0][0] == config,
        'units': units(other, again[1][1]),
        'read': relative(read, expected),
        'written': relative(np.asarray(model.logits(tokens, adapter=mine)), theirs.numpy()),
        'change': relative(np.asarray(model.logits(tokens)), expected),
    }
