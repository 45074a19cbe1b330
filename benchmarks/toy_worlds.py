"""Toy worlds for benchmarks: base models and adapters of every task, trained once and kept.

A world is a pair of pretrained base models, adapters of 16 anchors and 6 held-outs on both,
and a second training of the held-outs' target adapters.
"""

import dataclasses
import pathlib

from absl import logging

from benchmarks import toy_scores
from lorajax.errors import InputError
from lorajax.experiment import models, pipeline
from lorajax.experiment.adapters import SIDES, load_trained
from lorajax.experiment.config import Experiment
from lorajax.toy import pretrain, world
from lorajax.types import JsonDict

PRETRAIN_STEPS = 1500
LEAST = 0.95  # exact match that trained adapters must have for a world to take part


@dataclasses.dataclass(frozen=True)
class Spec:
    """What distinguishes a world.

    Attributes:
      name: of its directory.
      shifts: of the 24 functions.
      split_seed: decides anchors and held-outs.
      model_seed: of the weights and batches of pretraining.
      seed: of the adapters' initial factors and the order of their data.
      separate_init: whether every adapter starts from factors of its own.
    """

    name: str
    shifts: tuple[int, ...]
    split_seed: int
    model_seed: int
    seed: int
    separate_init: bool = False

    def experiment(self, root: pathlib.Path) -> Experiment:
        """Returns the run that makes the world's adapters, in `root / name`."""
        anchors, heldouts = world.World(self.shifts, self.split_seed).split()
        bases = root / 'models' / f'{self.model_seed}'
        return Experiment(
            workdir=str(root / self.name),
            stages=('prepare', 'train'),
            source_model=str(bases / 'source'),
            target_model=str(bases / 'target'),
            anchors=tuple(function.task for function in anchors),
            heldouts=tuple(function.task for function in heldouts),
            seed=self.seed,
            separate_init=self.separate_init,
        )


def make(root: pathlib.Path, spec: Spec) -> Experiment:
    """Makes what is missing of a world; a killed call goes on where it stopped.

    Returns:
      The finished run.
    """
    experiment = pretrain_missing(root, spec)
    pipeline.run(experiment)
    return experiment


def pretrain_missing(root: pathlib.Path, spec: Spec) -> Experiment:
    """Makes the base models of a world unless they are there; returns the run, not begun."""
    experiment = spec.experiment(root)
    for side in SIDES:
        directory = pathlib.Path(experiment.model_directory(side))
        if not directory.exists():
            logging.info('world %s: pretraining the %s model', spec.name, side)
            pretrain.write_model(
                directory,
                side,
                world.World(spec.shifts, spec.split_seed),
                seed=spec.model_seed,
                steps=PRETRAIN_STEPS,
            )
    return experiment


def check(experiment: Experiment, items: int) -> JsonDict:
    """Refuses a world in which the held-outs' own adapters do not do their task.

    A source adapter that cannot do the task has nothing to translate, and an oracle that cannot
    makes no gap.

    Returns:
      Lowest exact match of a held-out's trained adapter, by side.

    Raises:
      InputError: naming the side, if it is below `LEAST`.
    """
    lowest = {}
    for side in SIDES:
        loaded = models.load_side(experiment, side)
        lowest[side] = min(
            toy_scores.of_task(
                loaded, experiment, task, {side: load_trained(experiment, side, task)}, items
            )[side][0]
            for task in experiment.heldouts
        )
        if lowest[side] < LEAST:
            raise InputError(
                f'{experiment.workdir}: a {side} adapter has exact match {lowest[side]:.2f} on its '
                f'own task, expected at least {LEAST}; take another model seed'
            )
    return lowest
