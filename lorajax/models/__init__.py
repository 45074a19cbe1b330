"""Decoders of the families of `families.py`."""

from lorajax.models.config import ModelConfig, RopeScaling
from lorajax.models.hf import merge_and_save
from lorajax.models.loading import load_model, random_model
from lorajax.models.model import Model
from lorajax.models.sampling import Greedy, Sampling

__all__ = [
    'Greedy',
    'Model',
    'ModelConfig',
    'RopeScaling',
    'Sampling',
    'load_model',
    'merge_and_save',
    'random_model',
]
