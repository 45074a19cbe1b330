"""The toy world: a real translation problem that fits into minutes on two CPU cores."""

import pathlib

CHECKPOINTS = pathlib.Path(__file__).parent / 'checkpoints'

# What runs call the two shipped checkpoints where a model is asked for.
MODELS = {'toy-source': CHECKPOINTS / 'source', 'toy-target': CHECKPOINTS / 'target'}
