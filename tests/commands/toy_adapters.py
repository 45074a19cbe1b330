"""Adapters of the toy's two models, drawn at random."""

import jax
import numpy as np

from lorajax import lora, toy
from lorajax.models import config as config_lib


def draw(side, seed, size=1.0):
    """A rank-2 adapter of the 'source' or 'target' model, its update times `size`."""
    config = config_lib.read(toy.MODELS[f'toy-{side}'])
    key = jax.random.key(seed)
    fresh = lora.init_adapter(key, config.projections, config.num_layers, 2, lora.TARGETS)
    adapter = jax.tree.map(lambda x: np.asarray(x + 0.1 * jax.random.normal(key, x.shape)), fresh)
    for entry in adapter['layers'].values():
        entry['b'] = np.asarray(size * entry['b'], np.float32)
    return adapter


def write(directory, side, seed, base_model, size=1.0):
    """Writes such an adapter in PEFT format and returns it."""
    adapter = draw(side, seed, size)
    lora.save_peft(directory, lora.LoraConfig(rank=2, alpha=2, base_model=base_model), adapter)
    return adapter
