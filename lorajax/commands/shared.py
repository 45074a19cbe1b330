"""Flags and checks that several commands have in common."""

import pathlib
from typing import Any

from lorajax.commands import training_state
from lorajax.errors import ArgumentError
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.lora import load_peft
from lorajax.lora.peft import DTYPES
from lorajax.models import ModelConfig
from lorajax.types import Adapter

_MODEL = 'a directory in HF format, owner/name[@revision] on the hub, toy-source or toy-target'


def model_flag(what: str = '', required: bool = True) -> Any:
    """A model that a command works on; `what` says which, if there are several."""
    return option('', f'{what}: {_MODEL}' if what else _MODEL, required=required)


def output_flag(what: str) -> Any:
    """Where a command writes; a directory that must be new."""
    return option('', f'a new directory for {what}', required=True)


def adapter_dtype_flag() -> Any:
    """The dtype of an adapter's file."""
    return option('float32', 'of the file that is written', choices=DTYPES)


def new_directory(output: str) -> pathlib.Path:
    """Returns the directory that a command shall make.

    Raises:
      ArgumentError: unless it is absent or an empty directory.
    """
    path = pathlib.Path(output)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ArgumentError('output', output, 'exists already, expected a new directory')
    return path


def resumable_directory(output: str) -> pathlib.Path:
    """Returns the directory that a command shall make, or goes on with; see `training_state`.

    Raises:
      ArgumentError: if it is there and its training is done, or it is none of a training.
    """
    if training_state.TrainingState(pathlib.Path(output)).is_new:
        return new_directory(output)
    return pathlib.Path(output)


def decode_limit(experiment: Experiment) -> int:
    """Returns the tokens to decode where there are no answers to take a length from.

    Raises:
      ArgumentError: if the setting leaves it open.
    """
    if not experiment.max_new_tokens:
        raise ArgumentError('max_new_tokens', 0, 'expected at least 1, there are no answers here')
    return experiment.max_new_tokens


def load_adapter(directory: str, config: ModelConfig) -> Adapter:
    """Reads an adapter that must have a model's depth and widths."""
    return load_peft(directory, config.num_layers, config.projections)[1]
