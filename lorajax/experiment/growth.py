"""A run grows: what another command line adds to it, and which files depend on what.

A run may be asked again for more: methods, anchors, held-outs, items, tables. Then just those
files are removed that depend on what is new, and the stages make them again as they make all that
is missing:

    file                        is made from
    data/eval/TASK              the items drawn for TASK
    data/train/TASK             the rows of TASK without those items, of whichever held-out
    adapters/SIDE/TASK          data/train/TASK
    mappings/METHOD             the adapters of all anchors
    predicted/METHOD/TASK       mappings/METHOD, adapters/source/TASK
    outcomes/TASK               data/eval/TASK, and of each method its adapter; a row for each item
    outcomes/source/TASK        data/eval/TASK, adapters/source/TASK; likewise
    outcomes/experiment2, 3     the adapters of all anchors, outcomes, settings of the tables
    results.json, report        all outcomes

Whatever else a run was begun with is in all of its adapters, so it cannot be mixed with other
settings and is refused by name.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from lorajax import io
from lorajax.errors import ArgumentError
from lorajax.evaluation import outcomes
from lorajax.experiment import options, tasks
from lorajax.experiment.adapters import REPEATED, SIDES
from lorajax.experiment.config import Experiment
from lorajax.tasks import examples
from lorajax.tasks.task import Example, TaskData

BASE, ORACLE = 'base', 'oracle'  # methods of the main table whose adapters are no predictions

_TABLES = (
    'anchor_counts', 'anchor_draws', 'top_k_grid', 'scaling_methods', 'transfer_methods',
    'study_items',
)  # fmt: skip


def _holds(new: Any, old: Any) -> bool:
    """Whether a list has everything that it had."""
    return isinstance(old, list) and set(old) <= set(new)


def _is_more(new: Any, old: Any) -> bool:
    """Whether a number, or a truth value, is no smaller than it was."""
    return isinstance(old, int) and new >= old


# Setting -> whether a run may go on with the first value where it had the second.
_GROWS: Mapping[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(('anchors', 'heldouts', 'methods'), _holds),
    **dict.fromkeys(('eval_per_task', 'diagnostics', 'allow_code_execution'), _is_more),
    **dict.fromkeys((*_TABLES, 'top_k'), lambda new, old: True),
}
_WHY_NOT: Mapping[str, str] = {
    **dict.fromkeys(('anchors', 'heldouts', 'methods'), 'a run can get more of them and lose none'),
    'eval_per_task': 'a run can get more items and lose none',
    'diagnostics': 'a run can get them and not lose them',
    'allow_code_execution': 'programs that ran cannot be judged by the proxy again',
}


def changes(experiment: Experiment, stored: Mapping[str, Any]) -> list[str]:
    """Returns the settings in which a run shall grow; [] if it is asked for what it was.

    Args:
      experiment: what is asked for now.
      stored: content of the run's config.json.

    Raises:
      ArgumentError: naming a setting that cannot be mixed with what the run was begun with.
    """
    now, grown = experiment.to_json(), []
    # What cannot be mixed at all is named first.
    differences = sorted(experiment.differences(stored).items(), key=lambda item: item[0] in _GROWS)
    for name, had in differences:
        if name not in _GROWS or not _GROWS[name](now[name], had):
            reason = _WHY_NOT.get(name, 'results of both cannot be mixed')
            raise ArgumentError(
                name,
                io.shorten(options.show(now[name]), 200),
                f'{experiment.files.config} was begun with '
                f'{io.shorten(options.show(had), 200)}, and {reason}; give that value or another '
                'workdir',
            )
        grown.append(name)
    return grown


class Stale(NamedTuple):
    """A file or directory that depends on what is new, and why."""

    path: pathlib.Path
    reason: str


@dataclasses.dataclass(frozen=True)
class Growth:
    """What a run's growth changes.

    Attributes:
      retrained: tasks of the run whose training rows are others now, since a new evaluation item
        stood among them.
      is_refitted: whether the mappings' anchors are others, or other adapters.
      stale: what is to be made again, and is there.
      outcomes: file -> rows that still hold, of those that are there.
    """

    retrained: frozenset[str]
    is_refitted: bool
    stale: tuple[Stale, ...]
    outcomes: Mapping[pathlib.Path, list[outcomes.Row]]


def measure(
    experiment: Experiment, stored: Mapping[str, Any], drawn: Mapping[str, TaskData]
) -> Growth:
    """Returns what changes in a run; nothing is changed yet.

    It may be asked again after a kill in the middle of the change: what was removed then is not
    there, and what is left is as stale as it was.

    Args:
      experiment: what is asked for now.
      stored: content of config.json, of what was asked for before.
      drawn: the rows of all tasks as they are drawn now.

    Raises:
      InputError: if a file of the run is damaged.
    """
    files = experiment.files
    before = {*stored['anchors'], *stored['heldouts']}
    retrained = frozenset(
        task
        for task in before & drawn.keys()
        if not _is_stored(files.train_data(task), drawn[task].train)
    )
    anchors = set(experiment.anchors)
    is_refitted = anchors != set(stored['anchors']) or bool(anchors & retrained)
    kept = {
        path: _kept(experiment, stored, task, path, drawn[task].eval, task in retrained, refitted)
        for task in stored['heldouts']
        for path, refitted in (
            (files.outcomes(task), is_refitted), (files.source_outcomes(task), False)
        )
        if path.exists()
    }  # fmt: skip
    found = _stale(experiment, stored, retrained, is_refitted)
    existing = tuple(entry for entry in found if entry.path.exists())
    return Growth(retrained, is_refitted, existing, kept)


def apply(growth: Growth) -> None:
    """Removes what is stale, so that the stages make it again."""
    for path, rows in growth.outcomes.items():
        if rows:
            outcomes.write(path, rows)
        else:
            path.unlink(missing_ok=True)
    for path, reason in growth.stale:
        logging.info('%s: made again, as %s changed', path, reason)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def generations(stored: Mapping[str, Any], names: Sequence[str], growth: Growth) -> list[list[str]]:
    """Returns the tasks of a run in the lists in which they came to it, to be trained together.

    Adapters that are there are not trained again with those that are new.

    Args:
      stored: content of config.json before.
      names: all tasks now.
      growth: from `measure`.
    """
    before = stored.get('generations') or [[*stored['anchors'], *stored['heldouts']]]
    old = [[task for task in some if task not in growth.retrained] for some in before]
    known = {task for some in old for task in some}
    return [some for some in (*old, [task for task in names if task not in known]) if some]


def _is_stored(path: pathlib.Path, rows: Sequence[Example]) -> bool:
    """Whether a file holds just these examples."""
    if not path.exists():
        return False
    io.check_sum(path)
    return io.read_jsonl(path) == json.loads(json.dumps([row.to_json() for row in rows]))


def _kept(
    experiment: Experiment,
    stored: Mapping[str, Any],
    task: str,
    path: pathlib.Path,
    items: Sequence[Example],
    is_retrained: bool,
    is_refitted: bool,
) -> list[outcomes.Row]:
    """Returns the outcomes of a held-out that still hold.

    Left out are those of methods whose adapters are made again, of items that are not asked in
    the same words, and of programs that were judged by the proxy and may run now.
    """
    files = experiment.files
    is_rejudged = experiment.allow_code_execution != stored.get('allow_code_execution')
    if is_rejudged and tasks.get(task, experiment.task_files).scorer == 'code':
        return []
    old = {example.item: example for example in examples.read(files.eval_data(task))}
    same = {row.item for row in items if row.item in old and old[row.item].prompt == row.prompt}
    methods = {BASE} if is_retrained else {BASE, ORACLE, REPEATED}
    return [
        row
        for row in outcomes.read(path, task)
        if row['item'] in same and (row['method'] in methods or not (is_refitted or is_retrained))
    ]


def _stale(
    experiment: Experiment, stored: Mapping[str, Any], retrained: frozenset[str], is_refitted: bool
) -> list[Stale]:
    """Returns what depends on what is new, whether it is there or not."""
    files = experiment.files
    found = [Stale(path, 'the outcomes') for path in (files.results, files.report_text)]
    found += [
        Stale(path, 'the methods, the anchors or the held-outs')
        for path in (files.selection, files.cosines)
    ]
    for task in sorted(retrained):
        reason = f'the training rows of {task}'
        found += [Stale(files.adapter(pool, task), reason) for pool in (*SIDES, REPEATED)]
        found += [Stale(path / task, reason) for path in sorted(files.all_predicted.glob('*'))]
        found.append(Stale(files.answered(task), reason))
    if retrained:
        found.append(Stale(files.all_checkpoints, 'training rows'))
    if is_refitted:
        directories = (files.mappings, files.all_predicted, files.all_answered)
        found += [Stale(path, 'the anchors') for path in directories]
    now = experiment.to_json()
    is_tabled = any(now[name] != stored.get(name) for name in (*_TABLES, 'heldouts'))
    has_other_items = stored.get('eval_per_task', 0) < min(
        experiment.study_items, experiment.eval_per_task
    )
    is_rejudged = experiment.allow_code_execution != stored.get('allow_code_execution')
    if is_refitted or retrained or is_tabled or has_other_items or is_rejudged:
        paths = [files.study(name) for name in ('experiment2', 'experiment3')]
        found += [Stale(path, 'its settings, anchors or items') for path in (*paths, files.cells)]
    return found
