"""First stage: everything that can be checked early, the data, config.json."""

import shutil
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging

from lorajax import io, toy
from lorajax.errors import InputError
from lorajax.experiment import checks, growth, models, provenance, story_rows, tasks
from lorajax.experiment.adapters import SIDES
from lorajax.experiment.config import Experiment
from lorajax.io import fields
from lorajax.tasks import data, examples, overlap, registry
from lorajax.types import JsonDict


def prepare(experiment: Experiment) -> bool:
    """Checks everything that can be checked early, draws the data, writes config.json.

    Raises:
      InputError: if the run was begun with other flags, a model or data set is not usable, or
        training and evaluation sets overlap.
    """
    files = experiment.files
    stored = _read_stored(experiment) if files.config.exists() else None
    if stored is not None and not growth.changes(experiment, stored):
        check_prepared(experiment)
        return False
    names = {'source': experiment.source_model, 'target': experiment.target_model}
    heldouts = tasks.get_all(experiment.heldouts, experiment.task_files)
    checks.check_execution(heldouts, experiment.allow_code_execution)
    for side, name in names.items():
        checks.check_model(name, experiment, side)
    drawn, counts = _draw(experiment)
    record = _grow(experiment, stored, drawn) if stored is not None else {}
    for side, name in names.items():
        if name in toy.MODELS and stored is None:
            with io.atomic_directory(files.model(side)) as directory:
                shutil.copytree(toy.MODELS[name], directory, dirs_exist_ok=True)
    io.write_json(files.overlap, counts)
    for task, rows in drawn.items():
        examples.write(files.train_data(task), rows.train)
        if rows.eval:
            examples.write(files.eval_data(task), rows.eval)
    io.write_json(files.config, _record(experiment) | record)
    return True


def _grow(experiment: Experiment, stored: JsonDict, drawn: Mapping[str, data.TaskData]) -> JsonDict:
    """Removes what depends on what is new in a run; returns what config.json says of that.

    Raises:
      InputError: if a task or a model was changed meanwhile.
    """
    _check_versions(experiment, stored)
    for side in SIDES:
        models.check_recorded(experiment, side)
    grown = growth.measure(experiment, stored, drawn)
    names = growth.changes(experiment, stored)
    logging.info('%s: grows in %s', experiment.workdir, ', '.join(names))
    growth.apply(grown)
    step = {'git_commit': stored.get('git_commit'), **{name: stored.get(name) for name in names}}
    return {
        'generations': growth.generations(stored, experiment.tasks, grown),
        'grown_from': [*(stored.get('grown_from') or []), step],
    }


def check_prepared(experiment: Experiment) -> None:
    """Refuses to go on with a run that is not prepared, or not with these settings and rows.

    Raises:
      InputError: saying which.
    """
    files = experiment.files
    if not files.config.exists():
        raise InputError(f'{files.config}: no such file; run the stage prepare first')
    stored = _read_stored(experiment)
    if grown := growth.changes(experiment, stored):
        raise InputError(
            f'{files.config}: was begun with other {", ".join(grown)}; run the stage prepare first'
        )
    _check_versions(experiment, stored)
    if stored.get('data_hash') not in (None, provenance.hash_rows(files.data)):
        raise InputError(
            f'{files.data}: its rows are not those that {files.config} was begun with; expected '
            'the same rows, or another workdir'
        )


def _read_stored(experiment: Experiment) -> JsonDict:
    """Reads the settings of a run that is there."""
    path = experiment.files.config
    stored = io.read_json(path)
    if not isinstance(stored, dict):
        raise InputError(f'{path}: is no JSON object, expected the settings of a run')
    for name in ('anchors', 'heldouts', 'methods'):
        fields.require(path, stored, name, fields.list_of(fields.TEXT))
    return stored


def _check_versions(experiment: Experiment, stored: JsonDict) -> None:
    """Refuses tasks that were changed since the run was begun."""
    versions = stored.get('task_versions')
    versions = versions if isinstance(versions, dict) else {}
    for task in tasks.get_all(experiment.tasks, experiment.task_files):
        if versions.get(task.name, task.version) != task.version:
            raise InputError(
                f'{experiment.files.config}: was begun with version '
                f'{io.show(versions[task.name])} of the task {task.name}, which is now '
                f'{task.version}; give another workdir'
            )


def _draw(experiment: Experiment) -> tuple[dict[str, data.TaskData], JsonDict]:
    """Chooses the rows of every task, and counts what training and evaluation sets share."""
    chosen: dict[str, Any] = {
        'anchors': tasks.get_all(experiment.anchors, experiment.task_files),
        'heldouts': tasks.get_all(experiment.heldouts, experiment.task_files),
        'source': story_rows.source(experiment),
        'eval_per_task': experiment.eval_per_task,
        'seed': experiment.seed,
        'protocol': experiment.protocol,
    }
    drawn = data.draw(**chosen, train_per_task=experiment.train_per_task)
    counts = overlap.matrix(drawn)
    overlap.check(counts)
    counts['before_the_rule'] = overlap.matrix(data.draw_raw(**chosen))['cells']
    return drawn, counts


def _record(experiment: Experiment) -> JsonDict:
    """Returns the content of config.json."""
    chosen = tasks.get_all(experiment.tasks, experiment.task_files)
    return {
        'schema': 1,
        **experiment.to_json(),
        'domains': {task.name: task.domain for task in chosen},
        'twins': {
            task: twins
            for task in experiment.heldouts
            if (twins := [t for t in registry.TWINS.get(task, ()) if t in experiment.anchors])
        },
        'generations': [list(experiment.tasks)],
        'task_versions': {task.name: task.version for task in chosen},
        'versions': provenance.versions(),
        'git_commit': provenance.git_commit(),
        'model_hashes': {
            side: models.weights_hash(models.resolve(experiment.model_directory(side)))
            for side in SIDES
        },
        'data_hash': provenance.hash_rows(experiment.files.data),
        'device': jax.devices()[0].device_kind,
    }
