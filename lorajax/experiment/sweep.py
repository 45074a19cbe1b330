"""Recipes that are trained side by side on the same rows: a file with a line for each."""

import dataclasses
import pathlib
import re
from typing import Any

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment.config import Experiment
from lorajax.io import fields

# What recipes of one training step may differ in.
VARIED = (
    'learning_rate', 'schedule', 'warmup_ratio', 'num_epochs', 'batch_size', 'lora_rank',
    'lora_alpha', 'lora_targets', 'seed',
)  # fmt: skip


def read(path: pathlib.Path, experiment: Experiment) -> dict[str, Experiment]:
    """Reads a sweep: lines such as {"name": "r8", "lora_rank": 8, "learning_rate": 1e-4}.

    Args:
      path: of the file.
      experiment: what holds where a line says nothing.

    Returns:
      The settings of each line by its name, which is fit for a directory.

    Raises:
      InputError: naming the line, for a setting that is not in `VARIED`, a value that it cannot
        have, or a name that is missing, unfit or there twice.
    """
    found: dict[str, Experiment] = {}
    for number, row in io.read_numbered_jsonl(path):
        place = f'{path}:{number}'
        row = fields.require_object(place, row)
        name = fields.require(place, row, 'name', fields.TEXT)
        if not re.fullmatch(r'\w[\w.-]*', name) or name in found:
            raise InputError(
                f'{place}: name is {fields.show(name)}, expected letters, digits, _, - and ., and '
                'no name twice'
            )
        if unknown := sorted(row.keys() - {'name', *VARIED}):
            raise InputError(f'{place}: {unknown[0]}: expected some of {", ".join(VARIED)}')
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in row.items()
            if key != 'name'
        }
        try:
            found[name] = dataclasses.replace(experiment, **values)
        except ArgumentError as error:
            raise InputError(f'{place}: {error}') from None
    if not found:
        raise InputError(f'{path}: has no lines, expected a recipe on each')
    return found
