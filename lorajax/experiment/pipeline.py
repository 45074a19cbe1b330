"""A run: every stage that is asked for and not done yet, in one work directory.

A second run does nothing, and a killed one goes on where it stopped; see `lorajax.stages`.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator

from absl import logging

from lorajax import io
from lorajax.errors import InputError
from lorajax.experiment.config import STAGES, Experiment
from lorajax.experiment.stages.evaluate import evaluate
from lorajax.experiment.stages.map import check_methods, translate
from lorajax.experiment.stages.prepare import prepare
from lorajax.experiment.stages.report import write_report
from lorajax.experiment.stages.train import train

_STAGES: dict[str, Callable[[Experiment], bool]] = {
    'prepare': prepare,
    'train': train,
    'map': translate,
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
      InputError: on bad flags, models or data, before anything is written where possible.
    """
    check_methods(experiment)
    done = []
    with lock(experiment):
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
def lock(experiment: Experiment) -> Iterator[None]:
    """Keeps a second process out of the work directory; ends with the process.

    Raises:
      InputError: if another process holds it, or --workdir is a file.
    """
    root = experiment.files.root
    if root.exists() and not root.is_dir():
        raise InputError(f'--workdir={root}: is a file, expected a directory')
    new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        with open(root / '.lock', 'w') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f'--workdir={root}: another process is running there') from None
            io.remove_partial(root)
            yield
    finally:
        if new and not experiment.files.config.exists():
            shutil.rmtree(root, ignore_errors=True)
