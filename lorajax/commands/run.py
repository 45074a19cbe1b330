"""`run`: the whole experiment, resumable."""

import dataclasses

from absl import logging

from lorajax.commands.command import Command
from lorajax.experiment import pipeline
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import options_of


@dataclasses.dataclass(frozen=True)
class Flags:
    """No flags beside those of `Experiment`."""


def run(flags: Flags, experiment: Experiment) -> None:
    """Does every stage of an experiment that is not done yet.

    The stages are prepare, train, map, evaluate and report. What is done already is not done
    again, and a run that was killed goes on where it stopped. Without a flagfile it is the toy
    world's, in minutes on two CPU cores.
    """
    del flags
    done = pipeline.run(experiment)
    if not done:
        logging.info('%s: everything is done already', experiment.workdir)
    if 'report' in experiment.stages:
        logging.info('report: %s', experiment.files.report_text)


COMMAND = Command('run', run, Flags, reads=tuple(options_of(Experiment)))
