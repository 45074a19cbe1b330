"""`evaluate`: any adapters of a model on any tasks."""

import dataclasses
import pathlib

from lorajax.commands import shared
from lorajax.commands.command import Command
from lorajax.errors import ArgumentError
from lorajax.evaluation import intervals, outcomes
from lorajax.evaluation.evaluate import evaluate as evaluate_task
from lorajax.evaluation.inference import decode_length
from lorajax.experiment import checks, models
from lorajax.experiment import tasks as task_names
from lorajax.experiment.config import Experiment
from lorajax.experiment.options import option
from lorajax.tasks import data
from lorajax.types import Adapter


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of `evaluate`."""

    model: str = shared.model_flag()
    adapters: tuple[str, ...] = option((), 'adapters of the model, in PEFT format; none if empty')
    tasks: tuple[str, ...] = option((), 'names of tasks, anchors or held-outs', required=True)
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
    tasks = task_names.get_all(flags.tasks)
    checks.check_execution(flags.tasks, experiment.allow_code_execution)
    drawn = data.draw_raw(
        (),
        tasks,
        data.DataSource(experiment.data_dir or None),
        experiment.eval_per_task,
        experiment.seed,
        experiment.protocol,
    )
    model, chat = models.load(flags.model, experiment)
    adapters: dict[str, Adapter | None] = {'base': None}
    for directory in flags.adapters:
        adapters[directory] = shared.load_adapter(directory, model.config)
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
            max_new_tokens=experiment.max_new_tokens or decode_length(chat, drawn[task.name].train),
            adapters_per_step=experiment.adapters_per_step,
            allow_code_execution=experiment.allow_code_execution,
        )
        stored += rows
        for name in adapters:
            print(_summary(task.name, name, [row for row in rows if row['method'] == name]))
    if output:
        outcomes.write(output, stored)


def _summary(task: str, name: str, rows: list[outcomes.Row]) -> str:
    """One line on one adapter: accuracy with its interval, loss."""
    correct, count = sum(row['correct'] for row in rows), len(rows)
    low, high = intervals.wilson(correct, count) or (0.0, 1.0)
    nll = outcomes.mean_nll(rows)
    loss = 'loss is not finite' if nll is None else f'{nll:.3f} nats per answer token'
    return (
        f'{task}  {name}  {correct}/{count} = {correct / count:.3f} [{low:.3f}, {high:.3f}]  {loss}'
    )


COMMAND = Command(
    'evaluate', evaluate, Flags,
    reads=('data_dir', 'protocol', 'eval_per_task', 'seed', 'decoding', 'lengths',
           'adapters_per_step', 'mesh', 'precision'),
    has_recipe=True,
)  # fmt: skip
