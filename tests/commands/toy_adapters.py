"""Adapters of the toy's two models, drawn at random."""

import jax
import numpy as np

from lorajax import lora, toy
from lorajax.models import config as config_lib


def draw(side, seed):
    """A rank-2 adapter of the 'source' or 'target' model."""
    config = config_lib.read(toy.MODELS[f'toy-{side}'])
    key = jax.random.key(seed)
    fresh = lora.init_adapter(key, config.projections, config.num_layers, 2, lora.TARGETS)
    return jax.tree.map(lambda x: np.asarray(x + 0.1 * jax.random.normal(key, x.shape)), fresh)


def write(directory, side, seed, base_model):
    """Writes such an adapter in PEFT format and returns it."""
    adapter = draw(side, seed)
    lora.save_peft(directory, lora.LoraConfig(rank=2, alpha=2, base_model=base_model), adapter)
    return adapter
