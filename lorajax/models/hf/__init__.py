"""Checkpoints in Hugging Face format: found, read, written, merged with an adapter."""

from lorajax.models.hf.checkpoint import find_tensors, load_params
from lorajax.models.hf.export import save_params
from lorajax.models.hf.hub import resolve
from lorajax.models.hf.merge import merge_and_save

__all__ = ['find_tensors', 'load_params', 'merge_and_save', 'resolve', 'save_params']
