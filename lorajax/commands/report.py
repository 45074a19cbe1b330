"""`report`: tables and figures of a run, made again."""

import dataclasses

from absl import logging

from lorajax.commands.command import Command
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.report import rebuild_report


@dataclasses.dataclass(frozen=True)
class Flags:
    """No flags beside those of `Experiment`."""


def report(flags: Flags, experiment: Experiment) -> None:
    """Rebuilds results.json, tables and figures from stored outcomes.

    It needs no model, and what it makes of the same outcomes is always the same.

    Raises:
      InputError: if a file of the run is missing or damaged.
    """
    del flags
    rebuild_report(experiment.files)
    logging.info('report: %s', experiment.files.report_text)


COMMAND = Command('report', report, Flags, reads=('workdir',))
