"""Predictions for held-outs that joined a run after its mappings were fitted."""

import os
import pathlib
import shutil

from absl import logging

from lorajax import io, mapping
from lorajax.experiment import adapters, methods
from lorajax.experiment.config import Experiment
from lorajax.io import fields


def lacking(experiment: Experiment) -> dict[str, list[str]]:
    """Returns the fitted mappings that lack predictions, and of which held-outs."""
    files = experiment.files
    return {
        name: tasks
        for name in methods.fitted(experiment)
        if files.bases(name).exists()
        and (tasks := [t for t in experiment.heldouts if not files.predicted(name, t).exists()])
    }


def predict(experiment: Experiment, name: str, tasks: list[str]) -> None:
    """Predicts the target adapters of held-outs by a mapping that is there.

    Raises:
      InputError: if a file of the mapping or of an adapter is damaged.
    """
    files = experiment.files
    fitted = mapping.load(files.mapping(name))
    side = mapping.method_named(name).query_side
    queries = {task: adapters.load_trained(experiment, side, task) for task in tasks}
    predictions = fitted.explain_many(queries)
    base = experiment.model_directory('target')
    _note(files.mapping(name), files.diagnostics(name),
          {task: found.report for task, found in predictions.items()})  # fmt: skip
    for task, found in predictions.items():
        adapters.save_predicted(files.predicted(name, task), found.adapter, base)
    logging.info('mapping %s: predicts %s, too', name, ', '.join(tasks))


def _note(directory: pathlib.Path, path: pathlib.Path, reports: dict[str, object]) -> None:
    """Adds to a mapping's diagnostics how it predicted; the directory changes as a whole."""
    io.check_sum(path)
    diagnostics = fields.require_object(path, io.read_json(path))
    known = fields.require(path, diagnostics, 'predictions', fields.OBJECT, {})
    with io.atomic_directory(directory) as partial:
        shutil.copytree(directory, partial, copy_function=_link, dirs_exist_ok=True)
        io.write_json(partial / path.name, {**diagnostics, 'predictions': known | reports})
        io.write_sum(partial / path.name)
        io.write_sums(partial)


def _link(source: io.PathLike, target: io.PathLike) -> None:
    """Gives a file a second name; a copy where the file system has no such names.

    Files of ours are replaced and never written into, so what has two names stays as it is.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
