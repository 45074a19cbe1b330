"""Toy worlds for benchmarks: base models and adapters of every task, trained once and kept.

A world is a pair of pretrained base models, adapters of 16 anchors and 6 held-outs on both,
and a second training of the held-outs' target adapters.
"""

import dataclasses
import pathlib

from absl import logging

from lorajax.experiment import pipeline
from lorajax.experiment.adapters import SIDES
from lorajax.experiment.config import Experiment
from lorajax.toy import pretrain, world

PRETRAIN_STEPS = 1500


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
        models = root / 'models' / f'{self.model_seed}'
        return Experiment(
            workdir=str(root / self.name),
            stages=('prepare', 'train'),
            source_model=str(models / 'source'),
            target_model=str(models / 'target'),
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
