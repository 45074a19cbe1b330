"""Second stage: the adapters of every task on both models."""

import contextlib
import dataclasses
import shutil
from collections.abc import Mapping, Sequence

from lorajax.experiment import models
from lorajax.experiment.adapters import REPEATED, SIDES
from lorajax.experiment.config import Experiment
from lorajax.lora import LoraConfig, save_peft
from lorajax.models import Model
from lorajax.tasks import examples
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.training import MetricWriter, TrainCheckpoints, TrainConfig, train_adapters
from lorajax.training.checkpoint import group_name


@dataclasses.dataclass(frozen=True)
class Pool:
    """Adapters that one recipe trains on one model.

    Attributes:
      name: of the directory below `adapters`.
      side: of the base model, 'source' or 'target'.
      tasks: one adapter each.
      config: the recipe.
    """

    name: str
    side: str
    tasks: tuple[str, ...]
    config: TrainConfig


def pools(experiment: Experiment) -> list[Pool]:
    """Returns what a run trains: every task on both models, and the held-outs once more.

    The repeated training sees the data in another order (and starts from another `a` where
    every adapter has its own). What two trainings of one task have in common is what a
    translation can at best have in common with one of them.
    """
    config = experiment.train_config
    all_pools = [Pool(side, side, experiment.tasks, config) for side in SIDES]
    if experiment.diagnostics:
        again = dataclasses.replace(config, repeat=1)
        all_pools.append(Pool(REPEATED, 'target', experiment.heldouts, again))
    return all_pools


def train(experiment: Experiment) -> bool:
    """Trains the adapters of every pool, those that are missing."""
    files = experiment.files
    loaded: dict[str, tuple[Model, ChatFormat]] = {}
    for pool in pools(experiment):
        missing = {task for task in pool.tasks if not files.adapter(pool.name, task).exists()}
        if not missing:
            continue
        if pool.side not in loaded:
            loaded.clear()  # one base model in memory at a time
            loaded[pool.side] = models.load_side(experiment, pool.side)
        model, chat = loaded[pool.side]
        encoded = {
            task: examples.encode(
                chat, examples.read(files.train_data(task)), experiment.max_len, task
            )
            for task in pool.tasks
        }
        for group in _groups(encoded, experiment.adapters_per_step):
            if not missing.isdisjoint(group):
                _train_group(experiment, pool, model, chat, group)
        # What is left belongs to groups of another size, of a run that was killed.
        shutil.rmtree(files.pool_checkpoints(pool.name), ignore_errors=True)
    return bool(loaded)


def _groups(encoded: Mapping[str, list[Encoded]], size: int) -> list[dict[str, list[Encoded]]]:
    """Splits tasks into groups trained together, similar lengths beside each other."""

    def mean_length(task: str) -> float:
        return sum(len(e.prompt) + len(e.answer) for e in encoded[task]) / len(encoded[task])

    ordered = sorted(encoded, key=mean_length)
    size = size or len(ordered)
    return [
        {task: encoded[task] for task in ordered[i : i + size]}
        for i in range(0, len(ordered), size)
    ]


def _train_group(
    experiment: Experiment,
    pool: Pool,
    model: Model,
    chat: ChatFormat,
    encoded: Mapping[str, Sequence[Encoded]],
) -> None:
    """Trains some adapters together, from the last saved state on, and writes those not there."""
    files = experiment.files
    state = files.checkpoints(pool.name, group_name(encoded))
    with contextlib.closing(TrainCheckpoints(state)) as checkpoints:
        trained = train_adapters(
            model,
            encoded,
            pool.config,
            pad_id=chat.pad_id,
            label=pool.name,
            checkpoints=checkpoints,
            metrics=MetricWriter(files.metrics),
        )
    config = LoraConfig(
        rank=experiment.lora_rank,
        alpha=experiment.lora_alpha,
        targets=experiment.lora_targets,
        base_model=experiment.model_directory(pool.side),
    )
    for task, adapter in trained.items():
        if not files.adapter(pool.name, task).exists():
            save_peft(files.adapter(pool.name, task), config, adapter)
    shutil.rmtree(state)
