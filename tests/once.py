"""Directories that are costly to make, made once for all workers of a test session."""

import fcntl
import os
import pathlib
from collections.abc import Callable


def make_once(tmp_path_factory, name: str, make: Callable[[pathlib.Path], object]) -> pathlib.Path:
    """Returns a directory of the whole session; the first worker that asks makes it.

    Args:
      tmp_path_factory: of pytest.
      name: of the directory, another one for each content.
      make: fills the directory it is given, which does not exist yet.
    """
    root = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        root = root.parent  # each worker has a directory of its own below that of the session
    directory, done = root / 'once' / name, root / 'once' / f'{name}.done'
    directory.parent.mkdir(exist_ok=True)
    with open(root / 'once' / f'{name}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(directory)
            done.touch()
    return directory
