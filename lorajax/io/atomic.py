"""Writes that are whole or absent.

Everything is written beside its destination, flushed to disk and renamed into place, so a run
that is killed leaves either the old file or the new one. A directory that replaces another trades
places with it in one step where the system can (`renameat2`, Linux 3.15, on most file systems);
elsewhere the old one steps aside first, and `remove_partial`, or the next write to the same place,
puts it back if a kill came in between.
"""

import contextlib
import ctypes
import errno
import functools
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterator

from lorajax.errors import InputError
from lorajax.io.reading import PathLike

_PARTIAL = '.partial-'  # being written, or replaced and being removed
_ASIDE = '.aside-'  # the old directory, while neither it nor the new one has its name
_SUFFIX_LENGTH = 9  # '-' and eight hex digits
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # fcntl.h, linux/fs.h
# What a system says that has the call but not for this file system, or not at all.
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def _fsync(path: pathlib.Path) -> None:
    """Flushes a file or directory to stable storage."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not flush directories; files must be flushed.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _sibling(path: pathlib.Path, prefix: str) -> pathlib.Path:
    """Returns a name beside `path` that no finished file can have."""
    return path.with_name(f'{prefix}{path.name}-{uuid.uuid4().hex[:8]}')


@contextlib.contextmanager
def _errors_name(path: pathlib.Path, temporary: pathlib.Path) -> Iterator[None]:
    """Turns failures to write into one line that names `path`.

    A full disk names no file at all, and what names the temporary one helps nobody. Failures that
    concern other files are left alone.
    """
    try:
        yield
    except shutil.Error as error:  # of copytree: a list of (source, destination, reason)
        reasons = error.args[0]
        reason = reasons[0][-1] if isinstance(reasons, list) and reasons else error
        raise InputError(f'{path}: cannot be written: {reason}') from None
    except OSError as error:
        if not _concerns(error, path, temporary):
            raise
        reason = error.strerror or str(error)
        raise InputError(f'{path}: cannot be written: {reason[:1].lower()}{reason[1:]}') from None


def _concerns(error: OSError, path: pathlib.Path, temporary: pathlib.Path) -> bool:
    """Returns whether an error is about the writing of `path`."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return error.errno in _DISK
    name = pathlib.Path(os.fsdecode(error.filename))
    return name in (path, *path.parents) or name.is_relative_to(temporary)


@contextlib.contextmanager
def _parents(path: pathlib.Path) -> Iterator[None]:
    """Makes the directories above `path`; if the block fails, those that it made go again."""
    made = [parent for parent in path.parents if not os.path.lexists(parent)]  # nearest first
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # others have put something there meanwhile
            for parent in made:
                parent.rmdir()
        raise


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path; renames it to `path` if the block succeeds.

    Args:
      path: the file that shall appear; missing parent directories are made, and not kept if the
        block raises.

    Yields:
      The path to write to. After the block it is flushed and renamed, or removed if the
      block raised.

    Raises:
      InputError: naming `path`, if the system does not let it be written, as on a full disk.
    """
    path = pathlib.Path(path)
    temporary = _sibling(path, _PARTIAL)
    with _errors_name(path, temporary), _parents(path):
        try:
            yield temporary
            _fsync(temporary)
            os.replace(temporary, path)
            _fsync(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary directory; renames it to `path` if the block succeeds.

    A directory that is already at `path` is replaced as a whole; at every moment one of both has
    the name, whatever kills the process.

    Raises:
      InputError: naming `path`, if it is a file, or the system does not let it be written.
    """
    path = pathlib.Path(path)
    if os.path.islink(path) and os.path.isdir(path):
        path = pathlib.Path(os.path.realpath(path))  # the link stays, what it points to changes
    temporary = _sibling(path, _PARTIAL)
    with _errors_name(path, temporary), _parents(path):
        _restore(path)
        if os.path.lexists(path) and not path.is_dir():
            raise InputError(f'{path}: is a file, expected a directory')
        temporary.mkdir()
        try:
            yield temporary
            for inner in sorted(temporary.rglob('*')):
                if inner.is_file() or inner.is_dir():
                    _fsync(inner)
            _fsync(temporary)
            _put(temporary, path)
            _fsync(path.parent)
        finally:
            _remove(temporary)


def _put(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Gives a directory its name; what had it before has the temporary name then."""
    if not path.exists():
        try:
            os.rename(temporary, path)
            return
        except OSError as error:  # another process has put one there meanwhile
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    if not exchange(temporary, path):
        aside = _sibling(path, _ASIDE)
        os.rename(path, aside)
        os.rename(temporary, path)
        _remove(aside)


def exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Lets two files or directories trade names in one step.

    Returns:
      False if the system or the file system cannot, and nothing is changed.

    Raises:
      OSError: for all other reasons.

    Source: renameat2(2), RENAME_EXCHANGE.
    """
    call = _renameat2()
    if call is None:
        return False
    if not call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), os.fspath(second))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Returns the C library's function; None where there is none, as outside Linux."""
    call = getattr(ctypes.CDLL(None, use_errno=True), 'renameat2', None)
    if call is not None:
        text, number = ctypes.c_char_p, ctypes.c_int
        call.argtypes = (number, text, number, text, ctypes.c_uint)
    return call


def _restore(path: pathlib.Path) -> None:
    """Puts back the directory that stepped aside for one that never came."""
    for aside in sorted(path.parent.glob(f'{_ASIDE}*')):
        if _name_of(aside) != path.name:
            continue
        if os.path.lexists(path):
            _remove(aside)
        else:
            os.rename(aside, path)


def _name_of(aside: pathlib.Path) -> str:
    """Returns the name that a directory had before it stepped aside."""
    return aside.name[len(_ASIDE) : -_SUFFIX_LENGTH]


def _remove(path: pathlib.Path) -> None:
    """Removes a file, a link or a directory with all that is in it, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_partial(directory: PathLike) -> None:
    """Removes what killed runs left behind below `directory`, and puts back what stepped aside."""
    directory = pathlib.Path(directory)
    for path in sorted(directory.rglob(f'{_PARTIAL}*')):
        _remove(path)
    for path in sorted(directory.rglob(f'{_ASIDE}*')):
        if path.is_dir():
            _restore(path.with_name(_name_of(path)))


def write_text(path: PathLike, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all.

    Halves of surrogate pairs, which no UTF-8 can hold and a model's output may, become U+FFFD.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:  # pairs that stand in two halves become whole on the way
        data = text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').encode()
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
