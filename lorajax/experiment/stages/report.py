"""Last stage: results.json, the report and its figures, from stored outcomes alone."""

from lorajax import io
from lorajax.errors import InputError
from lorajax.evaluation import results
from lorajax.experiment.config import Experiment
from lorajax.experiment.workdir import Workdir
from lorajax.report import write


def write_report(experiment: Experiment) -> bool:
    """Writes results.json and the report, unless they are newer than all outcomes."""
    files = experiment.files
    for task in experiment.heldouts:
        if not files.outcomes(task).exists():
            raise InputError(f'{files.outcomes(task)}: no such file; run the stage evaluate first')
    newest = max(path.stat().st_mtime_ns for path in (files.root / 'outcomes').rglob('*.jsonl'))
    finished = files.report / 'ROUND4_REPORT.md'
    if finished.exists() and min(
        finished.stat().st_mtime_ns, files.results.stat().st_mtime_ns
    ) > newest:  # fmt: skip
        return False
    rebuild_report(files)
    return True


def rebuild_report(files: Workdir) -> None:
    """Computes results.json and the report from the stored outcomes alone."""
    io.write_json(files.results, results.build(files))
    write.write(files)
