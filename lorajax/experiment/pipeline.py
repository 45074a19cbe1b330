"""A run: every stage that is asked for and not done yet, in one work directory.

A second run does nothing, and a killed one goes on where it stopped; see `experiment.stages`.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from absl import logging

from lorajax import io
from lorajax.errors import ArgumentError
from lorajax.experiment import checks
from lorajax.experiment.config import STAGES, Experiment
from lorajax.experiment.stages.evaluate import evaluate
from lorajax.experiment.stages.map import fit_and_predict
from lorajax.experiment.stages.prepare import check_prepared, prepare
from lorajax.experiment.stages.report import write_report
from lorajax.experiment.stages.train import train
from lorajax.experiment.workdir import Workdir

_STAGES: dict[str, Callable[[Experiment], bool]] = {
    'prepare': prepare,
    'train': train,
    'map': fit_and_predict,
    'evaluate': evaluate,
    'report': write_report,
}


def run(experiment: Experiment) -> list[str]:
    """Does every stage of an experiment that is asked for and not done yet.

    Args:
      experiment: what to do.

    Returns:
      The stages in which there was something to do.

    Raises:
      InputError: on bad settings, models or data, before anything is written where possible.
    """
    checks.check_names(experiment)
    done = []
    with lock(experiment.files):
        if 'prepare' not in experiment.stages:
            check_prepared(experiment)
        for name in STAGES:
            if name not in experiment.stages:
                continue
            logging.info('stage %s', name)
            if _STAGES[name](experiment):
                done.append(name)
            else:
                logging.info('stage %s: nothing to do', name)
    return done


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
    with _locked(files.lock) as file:
        if file is None:
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


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[int | None]:
    """Yields the descriptor of a locked file, or None if another process holds the lock."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # the holder has just removed the directory
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            # The holder may have removed the file after it was opened here: then the lock is on
            # a file that nobody else will ever open.
            if _is_same(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_same(descriptor: int, path: pathlib.Path) -> bool:
    """Returns whether a path still names the file that a descriptor has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
