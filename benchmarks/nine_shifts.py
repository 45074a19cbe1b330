"""A toy world of nine shifts: 54 functions, all with adapters on both models.

Its base models know every function, but a training as long as the demo's leaves a quarter of the
adapters, nearly all of even shifts, far from it: those are trained anew, three times as long.
"""

import dataclasses
import json
import pathlib

from lorajax.experiment import models, pipeline
from lorajax.experiment.adapters import SIDES, load_trained
from lorajax.experiment.config import Experiment
from lorajax.lora import LoraConfig, load_peft, save_peft
from lorajax.tasks import examples
from lorajax.toy import pretrain, world
from lorajax.training import train_adapters
from lorajax.types import Adapter

SEED = 0x5726  # of the models; digits of commit 5726768043f0, after which nothing here was chosen
_ADAPTERS = 0x768E  # the same, of the adapters
_LEARNED = 0.05  # nats per token, at the end of a training


def language(split_seed: int) -> world.World:
    """Returns the world with some anchors and held-outs."""
    return world.World(tuple(range(1, 10)), split_seed)


def make(root: pathlib.Path) -> Experiment:
    """Makes base models of nine shifts, and adapters of all their 54 functions.

    Those that have not learned their function are trained anew; see `train_longer`.
    """
    toy = language(SEED)
    directory = root / 'models' / 'nine'
    for side in SIDES:
        if not (directory / side).exists():
            pretrain.write_model(directory / side, side, toy, seed=SEED, steps=2500)
    heldouts = toy.split()[1]
    experiment = Experiment(
        workdir=str(root / 'nine'), stages=('prepare', 'train'), diagnostics=False,
        source_model=str(directory / 'source'), target_model=str(directory / 'target'),
        anchors=tuple(f.task for f in toy.functions if f not in heldouts),
        heldouts=tuple(f.task for f in heldouts), seed=_ADAPTERS,
    )  # fmt: skip
    pipeline.run(experiment)
    for side in SIDES:
        train_longer(experiment, side)
    return experiment


def train_longer(experiment: Experiment, side: str) -> None:
    """Trains the adapters anew whose training ended above `_LEARNED`, three times as long.

    The rule sees the loss of the training alone. Written beside the run.
    """
    lines = map(json.loads, experiment.files.metrics.read_text().splitlines())
    last = [line for line in lines if line['event'] == 'train' and line['side'] == side][-1]
    losses = dict(zip(last['tasks'], last['loss'], strict=True))
    missing = [
        task
        for task, loss in losses.items()
        if loss > _LEARNED and not longer(experiment, side, task).exists()
    ]
    if not missing:
        return
    model, chat = models.load_side(experiment, side)
    config = dataclasses.replace(
        experiment.train_config, num_epochs=3 * experiment.train_config.num_epochs
    )
    encoded = {
        task: examples.encode(
            chat, examples.read(experiment.files.train_data(task)), experiment.max_len, task
        )
        for task in missing
    }
    trained = train_adapters(model, encoded, config, pad_id=chat.pad_id, label=side)
    lora = LoraConfig(rank=config.rank, alpha=config.alpha, targets=config.targets)
    for task, adapter in trained.items():
        save_peft(longer(experiment, side, task), lora, adapter)


def longer(experiment: Experiment, side: str, task: str) -> pathlib.Path:
    """Returns where an adapter lies that was trained anew."""
    return pathlib.Path(f'{experiment.workdir}_longer') / side / task


def load_final(experiment: Experiment, side: str, task: str) -> Adapter:
    """Reads an adapter of a run, the one that was trained anew if there is one."""
    path = longer(experiment, side, task)
    return load_peft(path)[1] if path.exists() else load_trained(experiment, side, task)
