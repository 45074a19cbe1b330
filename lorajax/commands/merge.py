"""`merge`: a base model with an adapter folded into its weights."""

import dataclasses

from absl import logging

from lorajax.commands import shared
from lorajax.commands.command import Command
from lorajax.experiment import models
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.models import merge_and_save


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `merge`."""

    model: str = shared.model_flag()
    adapter: str = option('', 'the adapter to fold in, in PEFT format', required=True)
    output: str = shared.output_flag('the merged model')


def merge(flags: Flags, experiment: Experiment) -> None:
    """Writes a model with an adapter folded into its weights.

    Any program that loads models in HF format loads the result. Weights are added in float32 and
    rounded once to the model's own dtype, one tensor in memory at a time.

    Raises:
      InputError: if the adapter does not fit the model, or the output exists.
    """
    del experiment
    output, directory = shared.new_directory(flags.output), models.resolve(flags.model)
    config = merge_and_save(directory, flags.adapter, output)
    if config.base_model and config.base_model not in (flags.model, str(directory)):
        logging.warning(
            '%s: belongs to %s by its config, merged into %s',
            flags.adapter, config.base_model, flags.model,
        )  # fmt: skip
    logging.info('merged model: %s', output)


COMMAND = Command('merge', merge, Flags)
