"""Fourth stage: outcomes of base, every prediction and the oracle; experiments 2 and 3."""

import functools
import shutil
from collections.abc import Mapping

from lorajax.errors import InputError
from lorajax.evaluation import ablations, outcomes
from lorajax.evaluation import evaluate as evaluation
from lorajax.evaluation.inference import decode_length
from lorajax.experiment import tasks
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.common import REPEATED, anchors, load, read_examples, trained_adapter
from lorajax.experiment.stages.map import mapping_options, predicted_methods
from lorajax.lora import load_peft
from lorajax.models import Model
from lorajax.tasks.chat import ChatFormat
from lorajax.types import Adapter


def evaluate(experiment: Experiment) -> bool:
    """Scores base, every prediction and the oracle on every held-out; experiments 2 and 3."""
    files = experiment.files
    missing = [task for task in experiment.heldouts if not files.outcomes(task).exists()]
    plan = {
        name: rows
        for name, rows in _study_plan(experiment).items()
        if not all(files.study_outcomes(name, task).exists() for task in experiment.heldouts)
    }
    if not missing and not plan:
        return False
    model, chat = load(experiment, 'target')
    score = functools.partial(_score, experiment, model, chat)
    for name in missing:
        adapters: dict[str, Adapter | None] = {'base': None}
        for method in predicted_methods(experiment):
            directory = files.predicted(method, name)
            if not directory.exists():
                raise InputError(f'{directory}: no such adapter; run the stage map first')
            adapters[method] = load_peft(directory)[1]
        if experiment.diagnostics:
            adapters[REPEATED] = trained_adapter(experiment, REPEATED, name)
        adapters['oracle'] = trained_adapter(experiment, 'target', name)
        rows = score(name, adapters, experiment.eval_per_task)
        outcomes.write(files.outcomes(name), rows)
    if plan:
        source, target = anchors(experiment)
        studied = ablations.Inputs(
            source,
            target,
            queries={
                task: trained_adapter(experiment, 'source', task) for task in experiment.heldouts
            },
            options=mapping_options(experiment),
            main={task: _studied_rows(experiment, task) for task in experiment.heldouts},
            group=experiment.adapters_per_step,
        )
        scratch = files.root / 'outcomes' / 'cells'
        answers = ablations.answer(
            plan,
            studied,
            lambda task, adapters: score(task, adapters, experiment.study_items),
            scratch,
        )
        for name, by_task in answers.items():
            for task, rows in by_task.items():
                outcomes.write(files.study_outcomes(name, task), rows)
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _score(
    experiment: Experiment,
    model: Model,
    chat: ChatFormat,
    task: str,
    adapters: Mapping[str, Adapter | None],
    items: int,
) -> list[outcomes.Row]:
    """Outcomes of adapters on the first items of a held-out.

    How far to decode is learned from its training rows: the references of its items are unseen.
    """
    trained = read_examples(experiment.files.train_data(task))
    return evaluation.evaluate(
        model,
        chat,
        tasks.get(task),
        read_examples(experiment.files.eval_data(task))[:items],
        adapters,
        batch_size=experiment.eval_batch_size,
        max_len=experiment.max_len,
        max_new_tokens=experiment.max_new_tokens or decode_length(chat, trained),
        adapters_per_step=experiment.adapters_per_step,
        allow_code_execution=experiment.allow_code_execution,
    )


def _study_plan(experiment: Experiment) -> ablations.Plan:
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
        domains = {task: tasks.get(task).domain for task in experiment.anchors}
        plan['experiment3'] = ablations.domain_transfer(
            experiment.anchors, domains, experiment.transfer_methods
        )
    return plan


def _studied_rows(experiment: Experiment, task: str) -> dict[str, list[outcomes.Row]]:
    """The main table's outcomes on the items of experiments 2 and 3, by method."""
    examples = read_examples(experiment.files.eval_data(task))[: experiment.study_items]
    items = {example.item for example in examples}
    rows: dict[str, list[outcomes.Row]] = {}
    for row in outcomes.read(experiment.files.outcomes(task), task):
        if row['item'] in items:
            rows.setdefault(row['method'], []).append(row)
    return rows
