"""Fourth stage: outcomes of base, every prediction and the oracle; experiments 2 and 3.

With diagnostics, also those of the source model: what its adapters can do, which is all that a
translation has to carry over.
"""

import functools
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from lorajax import processes
from lorajax.evaluation import ablations, outcomes, source_side
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
from lorajax.tasks.task import Example
from lorajax.types import Adapter


def evaluate(experiment: Experiment, shard: Shard = WHOLE) -> bool:
    """Scores base, every prediction and the oracle on every held-out; experiments 2 and 3.

    Shards divide the held-outs; experiments 2 and 3 are left to the run that merges them.
    """
    files = experiment.files
    heldouts = shard.share(experiment.heldouts)
    plan = _ablation_plan(experiment) if shard.is_whole else {}

    def undone() -> list[Any]:
        studied = {
            name: [files.study_outcomes(name, task) for task in experiment.heldouts]
            for name in plan
        }
        return [
            _all_lacking(experiment, 'target', heldouts),
            _all_lacking(experiment, 'source', heldouts),
            [name for name in plan if not all(path.exists() for path in studied[name])],
        ]

    missing, of_source, studies = processes.on_first(undone)
    if not missing and not of_source and not studies:
        return False
    processes.on_first(lambda: check_trained(experiment))
    if of_source:
        _complete(experiment, 'source', of_source, *models.load_side(experiment, 'source'))
    plan = {name: plan[name] for name in studies}
    if not missing and not plan:
        return True
    model, chat = models.load_side(experiment, 'target')
    _complete(experiment, 'target', missing, model, chat)
    if plan:
        score = functools.partial(_score, experiment, model, chat)
        studied = functools.partial(_items, experiment, count=experiment.study_items)
        _ablate(experiment, plan, lambda task, some: score(task, some, studied(task)))
    return True


def _items(experiment: Experiment, task: str, count: int | None = None) -> tuple[Example, ...]:
    """Returns the first items of a held-out, or all."""
    return tuple(examples.read(experiment.files.eval_data(task))[:count])


Lacking = list[Any]  # of [task, [[items, methods], ...]]


def _complete(
    experiment: Experiment, side: str, missing: Lacking, model: Model, chat: ChatFormat
) -> None:
    """Answers what is missing on one side and writes its outcomes."""
    for task, lacking in missing:
        items = {example.item: example for example in _items(experiment, task)}
        rows = _stored(experiment, side, task)
        for left, names in lacking:
            compared = {name: _adapter(experiment, side, name, task) for name in names}
            rows += _score(experiment, model, chat, task, compared, [items[item] for item in left])
        rows = _in_order(rows, _names(experiment, side), list(items))
        processes.on_first(functools.partial(outcomes.write, _path(experiment, side, task), rows))


def _path(experiment: Experiment, side: str, task: str) -> pathlib.Path:
    """Returns where the outcomes of one side lie."""
    files = experiment.files
    return files.outcomes(task) if side == 'target' else files.source_outcomes(task)


def _stored(experiment: Experiment, side: str, task: str) -> list[outcomes.Row]:
    """Returns the outcomes of a held-out that are there."""
    path = _path(experiment, side, task)
    return outcomes.read(path, task) if path.exists() else []


def _all_lacking(experiment: Experiment, side: str, heldouts: Sequence[str]) -> Lacking:
    """Returns what there is no outcome of on one side."""
    lacking = {task: _lacking(experiment, side, task) for task in heldouts}
    return [[task, [*some.items()]] for task, some in lacking.items() if some]


def _lacking(experiment: Experiment, side: str, task: str) -> dict[tuple[str, ...], list[str]]:
    """Returns items -> the methods that have not answered them."""
    answered: dict[str, set[str]] = {}
    for row in _stored(experiment, side, task):
        answered.setdefault(row['method'], set()).add(row['item'])
    items = [example.item for example in _items(experiment, task)]
    lacking: dict[tuple[str, ...], list[str]] = {}
    for name in _names(experiment, side):
        left = tuple(item for item in items if item not in answered.get(name, ()))
        if left:
            lacking.setdefault(left, []).append(name)
    return lacking


def _in_order(
    rows: Sequence[outcomes.Row], names: Sequence[str], items: Sequence[str]
) -> list[outcomes.Row]:
    """Sorts outcomes as if all had been made at once: by method, then by item."""
    method = {name: place for place, name in enumerate(names)}
    place = {item: place for place, item in enumerate(items)}
    return sorted(
        rows, key=lambda row: (method.get(row['method'], len(method)), place[row['item']])
    )


def _names(experiment: Experiment, side: str) -> list[str]:
    """Returns the methods of the main table, in its order; of the source what it can do."""
    if side == 'source':
        return [source_side.BARE, source_side.ADAPTED] if experiment.diagnostics else []
    repeated = [REPEATED] if experiment.diagnostics else []
    return ['base', *methods.predicted(experiment), *repeated, 'oracle']


def _adapter(experiment: Experiment, side: str, name: str, task: str) -> Adapter | None:
    """Returns the adapter of a method of the main table; None for the base model."""
    if name == 'base':
        return None
    if name in (REPEATED, 'oracle'):
        return adapters.load_trained(experiment, REPEATED if name == REPEATED else side, task)
    return adapters.load_predicted(experiment, name, task)


def _score(
    experiment: Experiment,
    model: Model,
    chat: ChatFormat,
    task: str,
    compared: Mapping[str, Adapter | None],
    items: Sequence[Example],
) -> list[outcomes.Row]:
    """Outcomes of adapters on items of a held-out."""
    files = experiment.files
    return evaluate_task(
        model,
        chat,
        tasks.get(task, experiment.task_files),
        items,
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
    answered = ablations.answer(plan, inputs, score, files.cells)

    def store() -> None:
        for name, by_task in answered.items():
            for task, rows in by_task.items():
                outcomes.write(files.study_outcomes(name, task), rows)
        shutil.rmtree(files.cells, ignore_errors=True)

    processes.on_first(store)


def _main_rows(experiment: Experiment, task: str) -> dict[str, list[outcomes.Row]]:
    """The main table's outcomes on the items of experiments 2 and 3, by method."""
    studied = examples.read(experiment.files.eval_data(task))[: experiment.study_items]
    items = {example.item for example in studied}
    rows: dict[str, list[outcomes.Row]] = {}
    for row in outcomes.read(experiment.files.outcomes(task), task):
        if row['item'] in items:
            rows.setdefault(row['method'], []).append(row)
    return rows
