"""The toy's models, and adapters with which they still finish their answers."""

import dataclasses
import pathlib

import jax
import numpy as np

from lorajax import toy
from lorajax.experiment import tasks
from lorajax.lora.tree import init_adapter
from lorajax.models import load_model
from lorajax.tasks.chat import load_chat_format

TASK = 'toy_code_keep_5'


def known_rows(count):
    """Rows that say which function is asked for: both bare models know the answer."""
    rows = tasks.get(TASK).pools(None, 'direct').train[:count]
    return [dataclasses.replace(row, prompt=row.prompt.replace('? ?', 'keep five')) for row in rows]


def load(side):
    """The 'source' or 'target' model and its chat format."""
    directory = pathlib.Path(toy.MODELS[f'toy-{side}'])
    return load_model(str(directory)), load_chat_format(directory)


def random_adapter(model, seed, rank=4, targets=('q_proj',), size=0.3):
    """An adapter with random factors; `b` has elements of about `size`."""
    shape = model.config
    fresh = init_adapter(jax.random.key(seed), shape.projections, shape.num_layers, rank, targets)
    rng = np.random.default_rng(seed)
    return {
        'layers': {
            name: {
                'a': np.asarray(entry['a']),
                'b': rng.normal(0, size, entry['b'].shape).astype(np.float32),
            }
            for name, entry in fresh['layers'].items()
        }
    }
