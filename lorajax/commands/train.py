"""`train`: one LoRA adapter on one model."""

import dataclasses
import pathlib

from absl import logging

from lorajax.commands import shared
from lorajax.commands.command import Command
from lorajax.errors import InputError
from lorajax.experiment import models, sweep, tasks
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.lora import LoraConfig, save_peft
from lorajax.models import Model
from lorajax.tasks import data, examples, sft_rows
from lorajax.tasks.chat import ChatFormat, Encoded, load_chat_format
from lorajax.training import train_adapters
from lorajax.types import Adapter


@dataclasses.dataclass(frozen=True)
class Flags:
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
    output: str = shared.output_flag('the adapter, or for those of a sweep')
    adapter_dtype: str = shared.adapter_dtype_flag()


def train(flags: Flags, experiment: Experiment) -> None:
    """Trains one adapter on one task, or on rows of your own, and writes it in PEFT format.

    The evaluation items of all held-outs are kept out of a task's training rows, so that what is
    trained here can be evaluated on any of them. With a sweep several recipes are trained in
    shared steps, each as if it were alone.

    Raises:
      InputError: unless one of task and file is given; on bad rows, a bad sweep, a loss that is
        not finite, or an output that exists.
    """
    output = shared.new_directory(flags.output)
    if bool(flags.task) == bool(flags.train_file):
        raise InputError('--task, --train_file: expected one of the two')
    label = flags.task or flags.train_file
    recipes = {label: experiment}
    if flags.sweep:
        recipes = sweep.read(pathlib.Path(flags.sweep), experiment)
    read = _task_rows if flags.task else _file_rows
    model, chat, rows = read(flags, experiment)

    def write(name: str, adapter: Adapter) -> None:
        recipe = recipes[name]
        config = LoraConfig(
            rank=recipe.lora_rank,
            alpha=recipe.lora_alpha,
            targets=recipe.lora_targets,
            base_model=flags.model,
        )
        path = output / name if flags.sweep else output
        save_peft(path, config, adapter, dtype=flags.adapter_dtype)
        logging.info('adapter of %d examples: %s', len(rows), path)

    train_adapters(
        model,
        dict.fromkeys(recipes, rows),
        {
            name: dataclasses.replace(recipe.train_config, data_order=label)
            for name, recipe in recipes.items()
        },
        pad_id=chat.pad_id,
        label=label,
        num_slots=experiment.adapters_per_step,
        on_done=write,
    )


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
    chat = load_chat_format(models.resolve(flags.model))
    conversations = [chat.encode_conversation(row) for row in rows]
    encoded = examples.fit(conversations, experiment.max_len, flags.train_file)
    return *models.load(flags.model, experiment), encoded


COMMAND = Command(
    'train', train, Flags,
    reads=('data', 'task_files', 'adapters', 'num_epochs', 'batch_size', 'learning_rate',
           'schedule', 'warmup_ratio', 'weight_decay', 'max_grad_norm', 'max_len', 'remat', 'mesh',
           'precision', 'adapters_per_step'),
    has_recipe=True,
    only_with={'data_dir': ('task',), 'protocol': ('task',), 'eval_per_task': ('task',),
               'train_per_task': ('task',), 'task_files': ('task',),
               'adapters_per_step': ('sweep',)},
)  # fmt: skip
