"""`run`: the whole experiment, resumable."""

import dataclasses

from absl import logging

from lorajax.commands import joining
from lorajax.commands.command import Command
from lorajax.experiment import outlook, pipeline
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option, options_of
from lorajax.experiment.shards import Shard


@dataclasses.dataclass(frozen=True)
class Flags(joining.Flags):
    """Flags of `run` that are no settings of the experiment."""

    num_shards: int = option(
        1, 'processes that divide the stages train and evaluate, in one work directory', minimum=1
    )
    shard_index: int = option(0, 'which of them this is, from 0 on', minimum=0)


def run(flags: Flags, experiment: Experiment) -> None:
    """Does every stage of an experiment that is not done yet.

    The stages are prepare, train, map, evaluate and report. What is done already is not done
    again, and a run that was killed goes on where it stopped. Without a flagfile it is the toy
    world's, in minutes on two CPU cores.

    A run grows: with more methods, anchors, held-outs or items than before, the same command does
    what is new and what depends on it. Other settings are refused if they cannot be mixed.

    Several machines that see the same work directory divide the trainings with --stages=train
    and a shard each, without talking to each other; then one of them does the rest. With
    num_processes and the like they work as one instead, each on its part of every array, as a
    model needs that is too large for one machine.
    """
    done = pipeline.run(experiment, Shard(flags.num_shards, flags.shard_index))
    if not done:
        logging.info('%s: everything is done already', experiment.workdir)
    if 'report' in experiment.stages:
        logging.info('report: %s', experiment.files.report_text)


def _plan(flags: Flags, experiment: Experiment) -> list[str]:
    """Returns what each stage would do."""
    Shard(flags.num_shards, flags.shard_index)
    return outlook.lines(experiment)


COMMAND = Command('run', run, Flags, reads=tuple(options_of(Experiment)), plan=_plan)
