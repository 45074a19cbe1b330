"""Flags and checks that several commands have in common."""

import pathlib
from typing import Any

from absl import logging

from lorajax.commands import training_state
from lorajax.errors import ArgumentError, InputError
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


def load_adapter(directory: str, config: ModelConfig, model: str) -> Adapter:
    """Reads an adapter that must have a model's depth and widths.

    Where it names another base, that is warned of: modules of many families have the same names,
    and a base may lie under another name here.

    Args:
      directory: of the adapter.
      config: of the model.
      model: its name as the user gave it.

    Raises:
      InputError: if it cannot be read, or has other shapes; says which base it names.
    """
    try:
        described, adapter = load_peft(directory, config.num_layers, config.projections)
    except InputError as error:
        base = _base_of(directory)
        if not base or _is_one(base, model):
            raise
        raise InputError(f'{error}; it names {base} as its base, not {model}') from None
    base = described.base_model
    if base and not _is_one(base, model):
        logging.warning(
            '%s: names %s as its base; taken as an adapter of %s', directory, base, model
        )
    return adapter


def _base_of(directory: str) -> str | None:
    """Returns the base that an adapter names; None if it names none or cannot be read."""
    try:
        return load_peft(directory)[0].base_model
    except InputError:
        return None


def _is_one(base: str, model: str) -> bool:
    """Whether two names are of one model as far as can be seen, as runs/toy/models/target is
    toy-target: the owner, the place and the revision may differ."""
    first, second = (
        name.partition('@')[0].rstrip('/').rpartition('/')[2].lower() for name in (base, model)
    )
    return first.endswith(second) or second.endswith(first)
