"""`train`: one LoRA adapter on one model."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from lorajax import processes
from lorajax.commands import joining, shared, training_state
from lorajax.commands.command import Command
from lorajax.errors import ArgumentError, InputError
from lorajax.evaluation.inference import answer_nll
from lorajax.experiment import models, sweep, tasks
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.lora import LoraConfig, save_peft
from lorajax.models import Model
from lorajax.rng import generator
from lorajax.tasks import data, examples, sft_rows
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.training import MetricWriter, TrainCheckpoints, TrainConfig, trackers, train_adapters
from lorajax.types import Adapter, JsonDict

_ROWS = 16  # whose loss is measured at a time


@dataclasses.dataclass(frozen=True)
class Flags(joining.Flags):
    """Flags of `train`."""

    model: str = shared.model_flag()
    task: str = option(
        '', 'a task of lorajax/tasks/registry.py or of the toy world, or a task file of your own'
    )
    train_file: str = option(
        '', 'rows of your own: JSON lines with messages, or with prompt and completion, as of TRL'
    )
    sweep: str = option(
        '',
        'recipes that are trained side by side on the same rows: JSON lines with a name, below '
        'output, and with settings such as learning_rate, lora_rank and lora_targets',
    )
    validation_split: float = option(
        0.0, 'share of the rows that is kept out, to measure the loss on', minimum=0.0, maximum=0.9
    )
    output: str = shared.output_flag('the adapter, or for those of a sweep')
    adapter_dtype: str = shared.adapter_dtype_flag()


def train(flags: Flags, experiment: Experiment) -> None:
    """Trains one adapter on one task, or on rows of your own, and writes it in PEFT format.

    The evaluation items of all held-outs are kept out of a task's training rows, so that what is
    trained here can be evaluated on any of them. With a sweep several recipes are trained in
    shared steps, each as if it were alone.

    The state of a training lies in OUTPUT.state until it is done. After an interruption the same
    command goes on from there. metrics.jsonl, beside the adapter in the end, has losses and speed,
    and with a validation split the loss on rows that are kept out, after every pass.

    Raises:
      InputError: unless one of task and file is given; on bad rows, a bad sweep, a loss that is
        not finite, an output that exists, or a state of another training.
    """
    output = pathlib.Path(processes.on_first(lambda: str(shared.resumable_directory(flags.output))))
    trackers.check(experiment.report_to)
    if bool(flags.task) == bool(flags.train_file):
        raise InputError('--task, --train_file: expected one of the two')
    label = flags.task or pathlib.Path(flags.train_file).name
    recipes = {label: experiment}
    if flags.sweep:
        recipes = sweep.read(pathlib.Path(flags.sweep), experiment)
    read = _task_rows if flags.task else _file_rows
    model, chat, rows = read(flags, experiment)
    rows, held = _split(rows, flags.validation_split, experiment.seed)
    configs = {
        name: dataclasses.replace(recipe.train_config, data_order=label)
        for name, recipe in recipes.items()
    }
    state = training_state.TrainingState(output)

    def begin() -> bool:
        state.begin(_identity(flags.model, rows, configs))
        return state.is_new

    is_new = processes.on_first(begin)
    metrics = MetricWriter(None)
    if processes.is_first():
        metrics = MetricWriter(state.metrics, experiment.report_to)

    def write(name: str, adapter: Adapter) -> None:
        recipe = recipes[name]
        config = LoraConfig(
            rank=recipe.lora_rank,
            alpha=recipe.lora_alpha,
            targets=recipe.lora_targets,
            base_model=flags.model,
        )
        path = output / name if flags.sweep else output
        processes.on_first(lambda: save_peft(path, config, adapter, dtype=flags.adapter_dtype))
        logging.info('adapter of %d examples: %s', len(rows), path)

    def look(step: int, adapters: Mapping[str, Adapter | None]) -> dict[str, str]:
        losses = {name: _loss(model, chat, adapter, held) for name, adapter in adapters.items()}
        metrics.write('validation', step=step, side=label, loss=losses)
        lowest = min(losses.values())
        return {'validation loss': f'{lowest:.3f}'}

    with contextlib.ExitStack() as held_open:
        held_open.callback(trackers.close_all)
        checkpoints = held_open.enter_context(
            contextlib.closing(TrainCheckpoints(state.checkpoints))
        )
        if held and is_new:
            for what, loss in look(0, {'base': None}).items():
                logging.info('base: %s %s', what, loss)
        train_adapters(
            model,
            dict.fromkeys(recipes, rows),
            configs,
            pad_id=chat.pad_id,
            label=label,
            checkpoints=checkpoints,
            metrics=metrics,
            num_slots=experiment.adapters_per_step,
            on_done=write,
            on_look=look if held else None,
            look_every=math.ceil(len(rows) / experiment.batch_size),
        )
    processes.on_first(state.end)


def _identity(model: str, rows: Sequence[Encoded], configs: Mapping[str, TrainConfig]) -> JsonDict:
    """Returns what a training that goes on must have in common with the one that began."""
    recipes = {
        f'{name}: {field}': value
        for name, config in configs.items()
        for field, value in dataclasses.asdict(config).items()
        if field not in ('data_order', 'checkpoint_every')
    }
    return {
        'model': models.weights_hash(models.resolve(model)),
        'rows': training_state.hash_rows(rows),
        **recipes,
    }


def _split(rows: list[Encoded], share: float, seed: int) -> tuple[list[Encoded], list[Encoded]]:
    """Returns rows to train on and rows that are kept out, as many as a share says, or one more.

    Raises:
      ArgumentError: if none is left to train on.
    """
    if not share:
        return rows, []
    count = math.ceil(share * len(rows))
    if count >= len(rows):
        raise ArgumentError('validation_split', share, f'leaves none of {len(rows)} rows')
    order = generator(seed, 'validation').permutation(len(rows))
    return [rows[i] for i in sorted(order[count:])], [rows[i] for i in sorted(order[:count])]


def _loss(
    model: Model, chat: ChatFormat, adapter: Adapter | None, rows: Sequence[Encoded]
) -> float:
    """Returns the loss of an adapter on rows that it is not trained on, nats per answer token."""
    ordered = sorted(rows, key=lambda row: len(row.prompt) + len(row.answer))
    total = 0.0
    for batch in (ordered[i : i + _ROWS] for i in range(0, len(ordered), _ROWS)):
        nll = answer_nll(model, adapter, batch, _ROWS, chat.pad_id)
        total += float(np.dot(nll, [len(row.targets) for row in batch]))
    return round(total / sum(len(row.targets) for row in rows), 6)


def _task_rows(flags: Flags, experiment: Experiment) -> tuple[Model, ChatFormat, list[Encoded]]:
    """Draws the rows of a task; loads the model."""
    task = tasks.get(flags.task, experiment.task_files)
    drawn = data.draw_training(
        task,
        tasks.heldouts_beside(task, experiment.task_files),
        data.DataSource(experiment.data_dir or None),
        experiment.train_per_task,
        experiment.eval_per_task,
        experiment.seed,
        experiment.protocol,
    )
    if drawn.unreserved:
        logging.warning(
            '%s: their rows are missing, so their evaluation items could not be kept out',
            ', '.join(drawn.unreserved),
        )
    model, chat = models.load(flags.model, experiment)
    return model, chat, examples.encode(chat, drawn.examples, experiment.max_len, flags.task)


def _file_rows(flags: Flags, experiment: Experiment) -> tuple[Model, ChatFormat, list[Encoded]]:
    """Reads the rows of a file, before any weight; loads the model."""
    rows = sft_rows.read(pathlib.Path(flags.train_file))
    chat = models.load_chat(flags.model, experiment)
    conversations = [chat.encode_conversation(row) for row in rows]
    encoded = examples.fit(conversations, experiment.max_len, flags.train_file)
    return *models.load(flags.model, experiment), encoded


def _plan(flags: Flags, experiment: Experiment) -> list[str]:
    """Returns what would be trained, on what, from where on."""
    count = 1
    if flags.sweep:
        count = len(sweep.read(pathlib.Path(flags.sweep), experiment))
    if flags.task:
        what = f'at most {experiment.train_per_task} rows of '
        what += tasks.get(flags.task, experiment.task_files).source
    else:
        what = f'{len(sft_rows.read(pathlib.Path(flags.train_file)))} rows of {flags.train_file}'
    state = training_state.TrainingState(pathlib.Path(flags.output))
    return [
        f'Train {count} adapter{"s" * (count > 1)} of {flags.model} on {what}.',
        'Begin anew.' if state.is_new else f'Go on from {state.directory}.',
    ]


COMMAND = Command(
    'train', train, Flags,
    reads=('data', 'task_files', 'end_tokens', 'adapters', 'num_epochs', 'batch_size',
           'learning_rate', 'schedule', 'warmup_ratio', 'weight_decay', 'max_grad_norm', 'max_len',
           'remat', 'attention', 'mesh', 'precision', 'adapters_per_step', 'checkpoint_every',
           'report_to'),
    has_recipe=True,
    only_with={'data_dir': ('task',), 'protocol': ('task',), 'eval_per_task': ('task',),
               'train_per_task': ('task',), 'task_files': ('task',),
               'adapters_per_step': ('sweep',)},
    plan=_plan,
)  # fmt: skip
