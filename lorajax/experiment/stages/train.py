"""Second stage: the adapters of every task on both models."""

import contextlib
import dataclasses
import shutil
from collections.abc import Mapping, Sequence

from lorajax.experiment import examples, models
from lorajax.experiment.adapters import REPEATED, SIDES
from lorajax.experiment.config import Experiment
from lorajax.lora import LoraConfig, save_peft
from lorajax.models import Model
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.training import MetricWriter, TrainCheckpoints, TrainConfig, train_adapters
from lorajax.training.checkpoint import group_name
from lorajax.types import Adapter


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
                trained = train_group(experiment, pool.name, pool.config, model, chat, group)
                _write(experiment, pool, trained)
                remove_state(experiment, pool.name, group)
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


def train_group(
    experiment: Experiment,
    pool: str,
    config: TrainConfig,
    model: Model,
    chat: ChatFormat,
    encoded: Mapping[str, Sequence[Encoded]],
    start_from: Mapping[str, Adapter] | None = None,
) -> dict[str, Adapter]:
    """Trains some adapters together; a run that was killed goes on from its last saved state.

    Args:
      experiment: of whose files the states and metrics are.
      pool: names the states.
      config: the recipe.
      model, chat: the base.
      encoded: training examples by task.
      start_from: adapters to go on from; fresh ones by default.

    Returns:
      Adapters by task. The state stays until `remove_state`, so that nothing is lost if the run
      is killed before they are written.
    """
    files = experiment.files
    state = TrainCheckpoints(files.checkpoints(pool, group_name(encoded)))
    with contextlib.closing(state):
        return train_adapters(
            model,
            encoded,
            config,
            pad_id=chat.pad_id,
            label=pool,
            start_from=start_from,
            checkpoints=state,
            metrics=MetricWriter(files.metrics),
        )


def remove_state(experiment: Experiment, pool: str, tasks: Mapping[str, object]) -> None:
    """Removes the saved state of a group whose adapters are written."""
    shutil.rmtree(experiment.files.checkpoints(pool, group_name(tasks)))


def _write(experiment: Experiment, pool: Pool, adapters: Mapping[str, Adapter]) -> None:
    """Writes adapters in PEFT format, those that are not there yet."""
    config = LoraConfig(
        rank=experiment.lora_rank,
        alpha=experiment.lora_alpha,
        targets=experiment.lora_targets,
        base_model=experiment.model_directory(pool.side),
    )
    for task, adapter in adapters.items():
        directory = experiment.files.adapter(pool.name, task)
        if not directory.exists():
            save_peft(directory, config, adapter)
