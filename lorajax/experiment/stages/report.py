"""Last stage: results.json, the report and its figures, from stored outcomes alone."""

import pathlib
from collections.abc import Sequence
from typing import Any

from lorajax import io
from lorajax.errors import InputError
from lorajax.evaluation import outcomes, results
from lorajax.experiment import records
from lorajax.experiment.config import Experiment
from lorajax.experiment.workdir import Workdir
from lorajax.report.writer import write
from lorajax.tasks import examples
from lorajax.types import JsonDict

ABLATIONS = ('experiment2', 'experiment3')


def write_report(experiment: Experiment) -> bool:
    """Writes results.json and the report, unless they are newer than all outcomes."""
    files = experiment.files
    for task in experiment.heldouts:
        if not files.outcomes(task).exists():
            raise InputError(f'{files.outcomes(task)}: no such file; run the stage evaluate first')
    newest = max(path.stat().st_mtime_ns for path in files.all_outcomes.rglob('*.jsonl'))
    made = (files.results, files.report_text)
    if all(path.exists() and path.stat().st_mtime_ns > newest for path in made):
        return False
    rebuild_report(files)
    return True


def rebuild_report(files: Workdir) -> None:
    """Computes results.json and the report from the stored outcomes alone.

    Raises:
      InputError: naming the file, if one is missing or damaged.
    """
    config = records.read_config(files.config)
    heldouts = config['heldouts']
    tables = {task: outcomes.read_table(files.outcomes(task), task) for task in heldouts}
    items = {
        task: [example.to_json() for example in examples.read(files.eval_data(task))]
        for task in heldouts
        if files.eval_data(task).exists()
    }
    diagnostics = {
        path.parent.name: _read_object(path)
        for path in sorted(files.mappings.glob('*/diagnostics.json'))
    }
    selection = _read_object(files.selection) if files.selection.exists() else {}
    summary = results.build(
        config,
        tables,
        eval_items=items,
        ablations={name: _ablation(files, name, heldouts) for name in ABLATIONS},
        diagnostics=diagnostics,
        cosines=_read_object(files.cosines) if files.cosines.exists() else None,
        source={
            task: outcomes.read_table(path, task)
            for task in heldouts
            if (path := files.source_outcomes(task)).exists()
        },
        selected_method=selection.get('selected_method'),
    )
    io.write_json(files.results, summary)
    write(
        files.report,
        summary,
        config,
        outcomes=tables,
        eval_items=items,
        metrics=_metrics(files),
        overlap=_read_object(files.overlap) if files.overlap.exists() else None,
        diagnostics=diagnostics,
    )


def _metrics(files: Workdir) -> list[Any]:
    """Reads what all trainings of a run left, those of its shards behind the others."""
    paths = [files.metrics, *sorted(files.all_item_metrics.glob('*.jsonl'))]
    return [row for path in paths for row in records.read_metrics(path)]


def _ablation(files: Workdir, name: str, heldouts: Sequence[str]) -> dict[str, list[outcomes.Row]]:
    """Reads the outcomes of experiment 2 or 3, of the held-outs that have some."""
    paths = {task: files.study_outcomes(name, task) for task in heldouts}
    return {task: outcomes.read(path, task) for task, path in paths.items() if path.exists()}


def _read_object(path: pathlib.Path) -> JsonDict:
    """Reads a JSON object, checked against its sum where there is one."""
    io.check_sum(path)
    value = io.read_json(path)
    if not isinstance(value, dict):
        raise InputError(f'{path}: is no JSON object')
    return value
