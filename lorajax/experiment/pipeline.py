"""A run: every stage that is asked for and not done yet, in one work directory.

A second run does nothing, and a killed one goes on where it stopped; see `experiment.stages`.
"""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator

from absl import logging

from lorajax import io, processes
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import checks, locks
from lorajax.experiment.config import STAGES, Experiment
from lorajax.experiment.shards import WHOLE, Shard
from lorajax.experiment.stages.evaluate import evaluate
from lorajax.experiment.stages.map import fit_and_predict
from lorajax.experiment.stages.prepare import check_prepared, prepare
from lorajax.experiment.stages.report import write_report
from lorajax.experiment.stages.train import train
from lorajax.experiment.workdir import Workdir
from lorajax.training import MetricWriter, trackers
from lorajax.training.metrics import CompileClock

_STAGES: dict[str, Callable[..., bool]] = {
    'prepare': prepare,
    'train': train,
    'map': fit_and_predict,
    'evaluate': evaluate,
    'report': write_report,
}
_DIVIDED = ('train', 'evaluate')  # these take a shard, too
_ON_HOST = ('prepare', 'report')  # no devices are needed: of several processes the first does them


def run(experiment: Experiment, shard: Shard = WHOLE) -> list[str]:
    """Does every stage of an experiment that is asked for and not done yet.

    Args:
      experiment: what to do.
      shard: which part of it, where several processes work in one work directory at once. They
        may run on different machines and never talk to each other; two that start the same
        piece of work wait for each other. What they left is merged by going on without shards.

    Returns:
      The stages in which there was something to do.

    Raises:
      InputError: on bad settings, models or data, before anything is written where possible.
      ArgumentError: if a stage that is asked for cannot be divided, and a shard is.
    """
    checks.check_names(experiment)
    trackers.check(experiment.report_to)
    if not shard.is_whole:
        _check_divided(experiment)
    done = []
    entry = lock(experiment.files) if shard.is_whole else share(experiment.files)
    with contextlib.ExitStack() as held:
        held.callback(trackers.close_all)
        processes.on_first(lambda: held.enter_context(entry))
        if 'prepare' not in experiment.stages:
            processes.on_first(lambda: check_prepared(experiment))
        for name in STAGES:
            if name not in experiment.stages:
                continue
            logging.info('stage %s', name)
            options = (shard,) if name in _DIVIDED else ()
            work = functools.partial(_STAGES[name], experiment, *options)
            with CompileClock() as clock:
                is_done = processes.on_first(work) if name in _ON_HOST else work()
            if is_done:
                done.append(name)
                _metrics(experiment.files, name, shard).write('stage', stage=name, **clock.values())
            else:
                logging.info('stage %s: nothing to do', name)
    return done


def _metrics(files: Workdir, stage: str, shard: Shard) -> MetricWriter:
    """Returns where a stage writes its time; no two processes append to one file."""
    if not processes.is_first():
        return MetricWriter(None)
    if shard.is_whole:
        return MetricWriter(files.metrics)
    return MetricWriter(files.item_metrics(stage, f'shard{shard.shard_index}'))


def _check_divided(experiment: Experiment) -> None:
    """Refuses to do a part of a stage that has none."""
    if others := [name for name in experiment.stages if name not in _DIVIDED]:
        raise ArgumentError(
            'stages',
            ','.join(others),
            f'cannot be divided among shards, expected some of {", ".join(_DIVIDED)}',
        )


@contextlib.contextmanager
def share(files: Workdir) -> Iterator[None]:
    """Enters a prepared work directory beside other shards; a whole run is kept out meanwhile.

    Raises:
      InputError: if it is not prepared.
      ArgumentError: if a whole run is under way there.
    """
    if not files.config.exists():
        raise InputError(f'{files.config}: no such file; run the stage prepare first')
    with locks.locked(files.lock, is_shared=True) as is_held:
        if not is_held:
            raise ArgumentError('workdir', files.root, 'another process is running there')
        yield


@contextlib.contextmanager
def lock(files: Workdir) -> Iterator[None]:
    """Keeps a second process out of a work directory; ends with the process.

    A directory that the block makes, and leaves without config.json, is removed again; only ever
    by the process that holds the lock.

    Raises:
      ArgumentError: if another process holds it, or the work directory is a file.
    """
    root = files.root
    if root.exists() and not root.is_dir():
        raise ArgumentError('workdir', root, 'is a file, expected a directory')
    is_new = not root.exists()
    with locks.locked(files.lock) as is_held:
        if not is_held:
            raise ArgumentError('workdir', root, 'another process is running there')
        # Another process may have come first between the two; then what is there is its work.
        is_new = is_new and os.listdir(root) == [files.lock.name]
        io.remove_partial(root)
        try:
            yield
        finally:
            if is_new and not files.config.exists():
                _remove(files)


def _remove(files: Workdir) -> None:
    """Removes a work directory; the lock last, so that nobody enters what is being removed."""
    for path in files.root.iterdir():
        if path != files.lock:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    files.lock.unlink()
    with contextlib.suppress(OSError):  # somebody has entered: it is theirs now
        files.root.rmdir()
