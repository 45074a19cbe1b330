"""Second stage: the adapters of every task on both models."""

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Iterable, Mapping, Sequence

from absl import logging

from lorajax import io, processes
from lorajax.errors import InputError
from lorajax.experiment import locks, models
from lorajax.experiment.adapters import REPEATED, SIDES
from lorajax.experiment.config import Experiment
from lorajax.experiment.shards import WHOLE, Shard
from lorajax.experiment.workdir import Workdir
from lorajax.io import fields
from lorajax.lora import LoraConfig, save_peft
from lorajax.models import Model
from lorajax.tasks import examples
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.training import MetricWriter, TrainCheckpoints, TrainConfig, train_adapters
from lorajax.training.checkpoint import group_name

_MOST_NAMES = 8  # of missing adapters that a message lists


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


def check_trained(experiment: Experiment) -> None:
    """Refuses to go on where the training is not done, by all of its shards if it has some.

    Raises:
      InputError: with the number of missing adapters and their names.
    """
    files = experiment.files
    wanted = [(pool.name, task) for pool in pools(experiment) for task in pool.tasks]
    missing = [f'{pool}/{task}' for pool, task in wanted if _missing(files, pool, [task])]
    if missing:
        names = ', '.join(missing[:_MOST_NAMES])
        more = f' and {len(missing) - _MOST_NAMES} more' * (len(missing) > _MOST_NAMES)
        raise InputError(
            f'{files.adapters}: {len(missing)} of {len(wanted)} adapters are missing, '
            f'{names}{more}; run the stage train first'
        )


def train(experiment: Experiment, shard: Shard = WHOLE) -> bool:
    """Trains the adapters of every pool, those that are missing.

    Shards divide the groups of adapters that are trained together. The groups are the same
    however many shards there are, so that the adapters have the same bytes.
    """
    files = experiment.files
    numbers = _shares(experiment, shard)
    loaded: dict[str, tuple[Model, ChatFormat]] = {}
    for pool in pools(experiment):
        if numbers[pool.name] and _is_missing(files, pool.name, pool.tasks):
            encoded = _encode(experiment, pool)
            groups = [
                group
                for names in _generations(experiment, pool)
                for group in _groups({t: encoded[t] for t in names}, experiment.adapters_per_step)
            ]
            wanted = [groups[number] for number in numbers[pool.name]]
            wanted = [group for group in wanted if _is_missing(files, pool.name, group)]
            if wanted and pool.side not in loaded:
                loaded.clear()  # one base model in memory at a time
                loaded[pool.side] = models.load_side(experiment, pool.side)
            for is_patient in (False, True):
                wanted = [
                    group
                    for group in wanted
                    if not _train_unless_busy(
                        experiment, pool, *loaded[pool.side], group, shard, is_patient
                    )
                ]
        # What is left belongs to groups of another size, of a run that was killed.
        if shard.is_whole:
            unfinished = files.pool_checkpoints(pool.name)
            processes.on_first(functools.partial(shutil.rmtree, unfinished, ignore_errors=True))
    return bool(loaded)


def _missing(files: Workdir, pool: str, tasks: Iterable[str]) -> list[str]:
    """Returns the tasks whose adapters are not there."""
    return [task for task in tasks if not files.adapter(pool, task).exists()]


def _is_missing(files: Workdir, pool: str, tasks: Iterable[str]) -> bool:
    """Returns whether an adapter is not there, as the first of several processes sees it."""
    return processes.on_first(lambda: bool(_missing(files, pool, tasks)))


def _generations(experiment: Experiment, pool: Pool) -> list[list[str]]:
    """Returns a pool's tasks in the lists in which they came to the run; see `growth`.

    The adapters of a group are made in the same steps, so one that joins a run later would be
    trained beside all that are there already.
    """
    path = experiment.files.config
    stored = fields.require_object(path, io.read_json(path))
    kind = fields.list_of(fields.list_of(fields.TEXT))
    known = fields.require(path, stored, 'generations', kind, [list(pool.tasks)])
    lists = [[task for task in pool.tasks if task in some] for some in known]
    return [some for some in lists if some]


def _shares(experiment: Experiment, shard: Shard) -> dict[str, list[int]]:
    """Returns the numbers of the groups of each pool that a shard trains."""
    size = experiment.adapters_per_step
    items = []
    for pool in pools(experiment):
        sizes = [len(some) for some in _generations(experiment, pool)]
        count = sum(-(-length // (size or length)) for length in sizes)
        items += [(pool.name, number) for number in range(count)]
    if shard.num_shards > len(items):
        logging.warning(
            '%d shards for %d groups of adapters: some have nothing to train; a group has '
            'adapters_per_step adapters',
            shard.num_shards,
            len(items),
        )
    shares: dict[str, list[int]] = {pool.name: [] for pool in pools(experiment)}
    for name, number in shard.share(items):
        shares[name].append(number)
    return shares


def _encode(experiment: Experiment, pool: Pool) -> dict[str, list[Encoded]]:
    """Returns the training rows of a pool's tasks as tokens."""
    chat = models.load_chat(experiment.model_directory(pool.side), experiment, pool.side)
    return {
        task: examples.encode(
            chat, examples.read(experiment.files.train_data(task)), experiment.max_len, task
        )
        for task in pool.tasks
    }


def _groups(encoded: Mapping[str, list[Encoded]], size: int) -> list[dict[str, list[Encoded]]]:
    """Splits tasks into groups trained together, those of about as many rows beside each other.

    So the adapters of a group end at about the same time. Examples of unequal length leave no gap;
    among tasks of as many rows, similar lengths stand beside each other, for fewer shapes.
    """

    def load(task: str) -> tuple[int, float]:
        rows = encoded[task]
        return len(rows), sum(len(e.prompt) + len(e.answer) for e in rows) / len(rows)

    ordered = sorted(encoded, key=load)
    size = size or len(ordered)
    return [
        {task: encoded[task] for task in ordered[i : i + size]}
        for i in range(0, len(ordered), size)
    ]


def _train_unless_busy(
    experiment: Experiment,
    pool: Pool,
    model: Model,
    chat: ChatFormat,
    encoded: Mapping[str, Sequence[Encoded]],
    shard: Shard,
    is_patient: bool,
) -> bool:
    """Trains a group; returns False if another process is at it, and one is not to wait."""
    files = experiment.files
    name = group_name(encoded)
    lock = files.training_lock(pool.name, name)
    if is_patient:
        logging.info('waiting for the process that trains %s', ', '.join(encoded))
    with contextlib.ExitStack() as held:
        waiting = locks.locked(lock, is_patient=is_patient)
        if not processes.on_first(lambda: held.enter_context(waiting)):
            return False
        if _is_missing(files, pool.name, encoded):  # still, now that nobody else is at it
            metrics = files.metrics if shard.is_whole else files.item_metrics(pool.name, name)
            writer = MetricWriter(None)
            if processes.is_first():
                writer = MetricWriter(metrics, experiment.report_to, files.root)
            _train_group(experiment, pool, model, chat, encoded, writer)
        processes.on_first(lambda: lock.unlink(missing_ok=True))
    return True


def _train_group(
    experiment: Experiment,
    pool: Pool,
    model: Model,
    chat: ChatFormat,
    encoded: Mapping[str, Sequence[Encoded]],
    metrics: MetricWriter,
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
            metrics=metrics,
        )
    config = LoraConfig(
        rank=experiment.lora_rank,
        alpha=experiment.lora_alpha,
        targets=experiment.lora_targets,
        base_model=experiment.model_directory(pool.side),
    )

    def store() -> None:
        for task, adapter in trained.items():
            if not files.adapter(pool.name, task).exists():
                save_peft(files.adapter(pool.name, task), config, adapter)
        shutil.rmtree(state)

    processes.on_first(store)
