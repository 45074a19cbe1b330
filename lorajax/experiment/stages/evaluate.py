"""Fourth stage: outcomes of base, every prediction and the oracle; experiments 2 and 3."""

import functools
import shutil
from collections.abc import Mapping

from lorajax.evaluation import ablations, outcomes
from lorajax.evaluation.evaluate import evaluate as evaluate_task
from lorajax.evaluation.inference import decode_length
from lorajax.experiment import adapters, methods, models, tasks
from lorajax.experiment.adapters import REPEATED
from lorajax.experiment.config import Experiment
from lorajax.experiment.shards import WHOLE, Shard
from lorajax.experiment.stages.train import check_trained
from lorajax.models import Model
from lorajax.tasks import examples
from lorajax.tasks.chat import ChatFormat
from lorajax.types import Adapter


def evaluate(experiment: Experiment, shard: Shard = WHOLE) -> bool:
    """Scores base, every prediction and the oracle on every held-out; experiments 2 and 3.

    Shards divide the held-outs; experiments 2 and 3 are left to the run that merges them.
    """
    files = experiment.files
    heldouts = shard.share(experiment.heldouts)
    missing = [task for task in heldouts if not files.outcomes(task).exists()]
    plan = {
        name: rows
        for name, rows in _ablation_plan(experiment).items()
        if shard.is_whole
        and not all(files.study_outcomes(name, task).exists() for task in experiment.heldouts)
    }
    if not missing and not plan:
        return False
    check_trained(experiment)
    model, chat = models.load_side(experiment, 'target')
    score = functools.partial(_score, experiment, model, chat)
    for task in missing:
        rows = score(task, _compared(experiment, task), experiment.eval_per_task)
        outcomes.write(files.outcomes(task), rows)
    if plan:
        _ablate(experiment, plan, lambda task, some: score(task, some, experiment.study_items))
    return True


def _compared(experiment: Experiment, task: str) -> dict[str, Adapter | None]:
    """Returns the adapters of one row of the main table, by method."""
    compared: dict[str, Adapter | None] = {'base': None}
    for method in methods.predicted(experiment):
        compared[method] = adapters.load_predicted(experiment, method, task)
    if experiment.diagnostics:
        compared[REPEATED] = adapters.load_trained(experiment, REPEATED, task)
    compared['oracle'] = adapters.load_trained(experiment, 'target', task)
    return compared


def _score(
    experiment: Experiment,
    model: Model,
    chat: ChatFormat,
    task: str,
    compared: Mapping[str, Adapter | None],
    count: int,
) -> list[outcomes.Row]:
    """Outcomes of adapters on the first items of a held-out."""
    files = experiment.files
    return evaluate_task(
        model,
        chat,
        tasks.get(task, experiment.task_files),
        examples.read(files.eval_data(task))[:count],
        compared,
        batch_size=experiment.eval_batch_size,
        max_len=experiment.max_len,
        max_new_tokens=experiment.max_new_tokens
        or decode_length(chat, examples.read(files.train_data(task))),
        adapters_per_step=experiment.adapters_per_step,
        allow_code_execution=experiment.allow_code_execution,
    )


def _ablation_plan(experiment: Experiment) -> ablations.Plan:
    """What experiments 2 and 3 consist of, those that are asked for."""
    plan: ablations.Plan = {}
    if '2' in experiment.experiments:
        plan['experiment2'] = ablations.anchor_scaling(
            experiment.anchors,
            experiment.anchor_counts,
            experiment.top_k_grid,
            experiment.anchor_draws,
            experiment.scaling_methods,
            experiment.seed,
        )
    if '3' in experiment.experiments:
        anchors = tasks.get_all(experiment.anchors, experiment.task_files)
        domains = {task.name: task.domain for task in anchors}
        plan['experiment3'] = ablations.domain_transfer(
            experiment.anchors, domains, experiment.transfer_methods
        )
    return plan


def _ablate(experiment: Experiment, plan: ablations.Plan, score: ablations.Score) -> None:
    """Answers experiments 2 and 3 and writes their outcomes."""
    files = experiment.files
    source, target = adapters.load_anchors(experiment)
    inputs = ablations.Inputs(
        source,
        target,
        queries={
            task: adapters.load_trained(experiment, 'source', task) for task in experiment.heldouts
        },
        options=methods.options(experiment),
        main={task: _main_rows(experiment, task) for task in experiment.heldouts},
        group=experiment.adapters_per_step,
    )
    for name, by_task in ablations.answer(plan, inputs, score, files.cells).items():
        for task, rows in by_task.items():
            outcomes.write(files.study_outcomes(name, task), rows)
    shutil.rmtree(files.cells, ignore_errors=True)


def _main_rows(experiment: Experiment, task: str) -> dict[str, list[outcomes.Row]]:
    """The main table's outcomes on the items of experiments 2 and 3, by method."""
    studied = examples.read(experiment.files.eval_data(task))[: experiment.study_items]
    items = {example.item for example in studied}
    rows: dict[str, list[outcomes.Row]] = {}
    for row in outcomes.read(experiment.files.outcomes(task), task):
        if row['item'] in items:
            rows.setdefault(row['method'], []).append(row)
    return rows
