"""`push`: an adapter and its model card to the Hugging Face hub."""

import dataclasses

from absl import logging

from lorajax.commands.command import Command
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.models.hf import upload


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `push`."""

    adapter: str = option('', 'the adapter, in PEFT format with a model card', required=True)
    repo: str = option('', 'where to: owner/name on the hub', required=True)
    public: bool = option(False, 'whether a repository that is made for it can be seen by all')
    message: str = option('', 'of the commit')


def push(flags: Flags, experiment: Experiment) -> None:
    """Uploads an adapter and its model card to the Hugging Face hub.

    It needs a token that may write, in HF_TOKEN or from `hf auth login`. A repository that is not
    there is made, private unless public is given. With dry_run the adapter is checked and nothing
    is sent.

    Raises:
      InputError: if the adapter is damaged, its base has no name on the hub, there is no model
        card, no token, or the hub refuses.
    """
    del experiment
    address = upload.push(flags.adapter, flags.repo, not flags.public, flags.message)
    logging.info('%s: %s', flags.adapter, address)


def plan(flags: Flags, experiment: Experiment) -> list[str]:
    """Returns what would be uploaded.

    Raises:
      InputError: as `push`, where that can be seen without the hub.
    """
    del experiment
    files = upload.files_of(flags.adapter, flags.repo)
    kind = 'public' if flags.public else 'private'
    return [
        f'make {flags.repo} ({kind}), if it is not there',
        *(f'upload {path.name}, {path.stat().st_size / 1e6:.3f} MB' for path in files),
    ]


COMMAND = Command('push', push, Flags, plan=plan)
