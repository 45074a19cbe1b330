"""`generate`: text from a model, with or without an adapter."""

import dataclasses

import numpy as np

from lorajax.commands import shared
from lorajax.commands.command import Command
from lorajax.experiment import models
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.models import Sampling
from lorajax.tasks.batching import pad_left


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `generate`."""

    model: str = shared.model_flag()
    adapter: str = option('', 'an adapter of the model, in PEFT format; none if empty')
    prompt: str = option('', "the user's message", required=True)
    system: str | None = option(None, "the system message; the chat template's own if not given")
    temperature: float = option(0.0, 'of sampling; 0 takes the likeliest token', minimum=0.0)


def generate(flags: Flags, experiment: Experiment) -> None:
    """Prints what a model answers to a prompt, with or without an adapter.

    The prompt goes through the model's chat template.

    Raises:
      InputError: if the adapter does not fit the model.
    """
    model, chat = models.load(flags.model, experiment)
    adapter = None
    if flags.adapter:
        adapter = shared.load_adapter(flags.adapter, model.config, flags.model)
    prompt = chat.encode_prompt(flags.prompt, flags.system)
    tokens, mask = pad_left([prompt], 1, len(prompt), chat.pad_id)
    output = model.generate(
        tokens,
        mask,
        adapter,
        max_new_tokens=shared.decode_limit(experiment),
        eos_ids=chat.stop_ids,
        pad_id=chat.pad_id,
        sampler=Sampling(flags.temperature) if flags.temperature else None,
    )
    print(chat.decode(np.asarray(output)[0]))


COMMAND = Command(
    'generate',
    generate,
    Flags,
    reads=('end_tokens', 'max_new_tokens', 'mesh', 'precision'),
    has_recipe=True,
)
