"""Locks between processes, held on files of a work directory; they end with their holder.

They are those of flock(2): they hold between machines where the file system carries them over, as
NFS does, and between the processes of one machine where it does not.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import pathlib
from collections.abc import Iterator

from absl import logging

# What a file system says that has no locks at all.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_MOST_ATTEMPTS = 1000  # beyond, it is no race: a link to nowhere, say


@contextlib.contextmanager
def locked(
    path: pathlib.Path, *, is_shared: bool = False, is_patient: bool = False
) -> Iterator[bool]:
    """Holds the lock of a file, which is made; yields whether it is held.

    Whoever holds it alone may remove the file; then the next one makes another.

    Args:
      path: the file.
      is_shared: whether others may hold it, too, if they also share it.
      is_patient: whether to wait for a holder instead of yielding False.

    Raises:
      OSError: if the file cannot be made. Where there are no locks a line says so and all are
        let in.
    """
    operation = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    operation |= 0 if is_patient else fcntl.LOCK_NB
    for attempt in itertools.count():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except (FileExistsError, FileNotFoundError):
            if attempt == _MOST_ATTEMPTS:
                raise
            continue  # the holder has just removed the directory, within `mkdir` or behind it
        try:
            is_held = _acquire(descriptor, operation, path)
            # The holder may have removed the file after it was opened here: then the lock is on
            # a file that nobody else will ever open.
            if not is_held or _is_same(descriptor, path):
                yield is_held
                return
        finally:
            os.close(descriptor)


def _acquire(descriptor: int, operation: int, path: pathlib.Path) -> bool:
    """Locks an open file; returns False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logging.warning(
            '%s: this file system has no locks; see that no two processes do the same', path
        )
    return True


def _is_same(descriptor: int, path: pathlib.Path) -> bool:
    """Returns whether a path still names the file that a descriptor has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
