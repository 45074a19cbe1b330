"""`evaluate`: any adapters of a model on any tasks."""

import dataclasses
import pathlib
from collections.abc import Sequence

from lorajax import processes
from lorajax.commands import joining, shared
from lorajax.commands.command import Command
from lorajax.errors import ArgumentError
from lorajax.evaluation import comparison, outcomes
from lorajax.evaluation.evaluate import evaluate as evaluate_task
from lorajax.evaluation.inference import decode_length
from lorajax.experiment import checks, models
from lorajax.experiment import tasks as task_names
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.tasks import data
from lorajax.tasks.chat import ChatFormat
from lorajax.tasks.task import Example, Task
from lorajax.types import Adapter


@dataclasses.dataclass(frozen=True)
class Flags(joining.Flags):
    """Flags of `evaluate`."""

    model: str = shared.model_flag()
    adapters: tuple[str, ...] = option((), 'adapters of the model, in PEFT format; none if empty')
    tasks: tuple[str, ...] = option(
        (), 'names of tasks, anchors or held-outs, or task files of your own', required=True
    )
    output: str = option('', 'a new file of JSON lines, one per item and adapter')


def evaluate(flags: Flags, experiment: Experiment) -> None:
    """Prints how a model and adapters of it score on tasks, all in one batch, one base load.

    The items are those that a run with the same seed and number of items would choose.

    Raises:
      InputError: if an adapter does not fit the model, or a task has no data.
      ArgumentError: if the output exists.
    """
    output = pathlib.Path(flags.output) if flags.output else None
    if output and output.exists():
        raise ArgumentError('output', flags.output, 'exists already, expected a new file')
    tasks = task_names.get_all(flags.tasks, experiment.task_files)
    checks.check_execution(tasks, experiment.allow_code_execution)
    drawn = data.draw_evaluation(
        tasks,
        data.DataSource(experiment.data_dir or None),
        experiment.eval_per_task,
        experiment.seed,
        experiment.protocol,
    )
    model, chat = models.load(flags.model, experiment)
    adapters: dict[str, Adapter | None] = {'base': None}
    for directory in flags.adapters:
        adapters[directory] = shared.load_adapter(directory, model.config, flags.model)
    stored: list[outcomes.Row] = []
    for task in tasks:
        rows = evaluate_task(
            model,
            chat,
            task,
            drawn[task.name].eval,
            adapters,
            batch_size=experiment.eval_batch_size,
            max_len=experiment.max_len,
            max_new_tokens=experiment.max_new_tokens or _length(chat, task, drawn[task.name].train),
            adapters_per_step=experiment.adapters_per_step,
            allow_code_execution=experiment.allow_code_execution,
        )
        stored += rows
        print('\n'.join(comparison.lines(task.name, rows)))
    if output:
        processes.on_first(lambda: outcomes.write(output, stored))


def _length(chat: ChatFormat, task: Task, examples: Sequence[Example]) -> int:
    """Returns the tokens to decode, from answers that are not scored."""
    if not examples:
        raise ArgumentError(
            'max_new_tokens', 0, f'task {task.name} has no training rows to take a length from'
        )
    return decode_length(chat, examples)


def _plan(flags: Flags, experiment: Experiment) -> list[str]:
    """Returns what would be scored on what."""
    tasks = task_names.get_all(flags.tasks, experiment.task_files)
    adapters = ' and '.join(['the base', *flags.adapters])
    return [f'Score {adapters} on at most {experiment.eval_per_task} items of each of:'] + [
        f'  {task.name}, version {task.version:g}, scored by {task.scorer}: {task.source}'
        for task in tasks
    ]


COMMAND = Command(
    'evaluate', evaluate, Flags,
    reads=('end_tokens', 'data_dir', 'task_files', 'protocol', 'eval_per_task', 'seed',
           'decoding', 'lengths', 'adapters_per_step', 'mesh', 'precision'),
    has_recipe=True,
    plan=_plan,
)  # fmt: skip
