"""What a run would do, from the names of the files that are there; config.json alone is read."""

from lorajax import io
from lorajax.experiment import checks, growth, methods, newcomers
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.train import pools
from lorajax.io import fields


def lines(experiment: Experiment) -> list[str]:
    """Returns a line for each stage that is asked for.

    Raises:
      InputError: on an unknown task or method, or settings that cannot be mixed with those that
        the run was begun with.
    """
    checks.check_names(experiment)
    what = {
        'prepare': _prepare(experiment),
        'train': _train(experiment),
        'map': _map(experiment),
        'evaluate': _evaluate(experiment),
        'report': 'tables and figures of all outcomes',
    }
    return [f'{stage}: {what[stage]}' for stage in experiment.stages]


def _prepare(experiment: Experiment) -> str:
    """What the first stage would do."""
    path = experiment.files.config
    if not path.exists():
        return (
            f'draw the rows of {len(experiment.anchors)} anchors and {len(experiment.heldouts)} '
            f'held-outs, into {experiment.workdir}'
        )
    names = growth.changes(experiment, fields.require_object(path, io.read_json(path)))
    if not names:
        return 'nothing, it is done'
    return (
        f'grow in {", ".join(names)}; what depends on them is removed and made again, adapters '
        'where their training rows change'
    )


def _train(experiment: Experiment) -> str:
    """What the second stage would do."""
    missing = {
        pool.name: sum(not experiment.files.adapter(pool.name, t).exists() for t in pool.tasks)
        for pool in pools(experiment)
    }
    shown = ', '.join(f'{count} {name}' for name, count in missing.items() if count)
    return f'train adapters: {shown}' if shown else 'nothing, all adapters are there'


def _map(experiment: Experiment) -> str:
    """What the third stage would do."""
    files = experiment.files
    fitted = [name for name in methods.fitted(experiment) if not files.bases(name).exists()]
    trained = [
        name
        for name in methods.trained(experiment)
        if not all(files.predicted(name, task).exists() for task in experiment.heldouts)
    ]
    parts = [
        f'{verb} {", ".join(names)}'
        for verb, names in (
            ('fit', fitted), ('predict held-outs by', list(newcomers.lacking(experiment))),
            ('train', trained),
        )
        if names
    ]  # fmt: skip
    return '; '.join(parts) or 'nothing, all predictions are there'


def _evaluate(experiment: Experiment) -> str:
    """What the fourth stage would do."""
    files = experiment.files
    missing = [task for task in experiment.heldouts if not files.outcomes(task).exists()]
    studies = [
        f'experiment {n}'
        for n in experiment.experiments
        if n != '1'
        and not all(files.study_outcomes(f'experiment{n}', t).exists() for t in experiment.heldouts)
    ]
    shown = ', '.join([*missing, *studies])
    return f'evaluate {shown}' if shown else 'only outcomes that new methods or items lack'
