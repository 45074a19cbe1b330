"""The toy world: a real translation problem that fits into minutes on two CPU cores."""

import pathlib

CHECKPOINTS = pathlib.Path(__file__).parent / 'checkpoints'

# What --source_model and --target_model call the two shipped checkpoints.
MODELS = {'toy-source': CHECKPOINTS / 'source', 'toy-target': CHECKPOINTS / 'target'}
