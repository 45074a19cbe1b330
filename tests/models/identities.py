"""Random adapters and tokens for the identities that every model must satisfy."""

import dataclasses

import numpy as np

from lorajax import lora
from lorajax.models import presets

# Biases of Qwen2 and the frequency scaling of Llama 3 in one model, so that an identity is
# compiled once.
SHAPE = dataclasses.replace(presets.QWEN2_TINY, rope_scaling=presets.LLAMA3_TINY.rope_scaling)


def random_adapter(config, seed, targets=lora.TARGETS, rank=3):
    """Returns an adapter of some projections, no factor of which is zero."""
    rng = np.random.default_rng(seed)
    return {
        'layers': {
            name: {
                'a': rng.normal(0, 0.2, (config.num_layers, *sizes[:1], rank)).astype(np.float32),
                'b': rng.normal(0, 0.2, (config.num_layers, rank, sizes[1])).astype(np.float32),
            }
            for name, sizes in config.projections.items()
            if name in targets
        }
    }


def tokens_for(config, shape=(3, 10), seed=0):
    """Returns int32 random tokens without the first three, which are special."""
    return np.random.default_rng(seed).integers(3, config.vocab_size, shape).astype(np.int32)
