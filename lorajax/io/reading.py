"""Files of others: opened only if they are files, and every failure is one line with the path."""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from lorajax.errors import InputError

PathLike = str | os.PathLike[str]


def shorten(text: str, most: int = 80) -> str:
    """Returns a text for one line of complaint: control characters escaped, a long one cut.

    Args:
      text: anything, such as a value that a file holds.
      most: characters that are left.
    """
    text = ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: most + 1])
    return text if len(text) <= most else f'{text[: most - 3]}...'


@contextlib.contextmanager
def one_line_errors(path: PathLike) -> Iterator[None]:
    """Turns the operating system's refusals inside the block into one line with the path.

    Raises:
      InputError: for every `OSError`: absent, a directory, a loop of links, a name too long,
        no permission, a full disk.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f'{os.fspath(path)}: no such file') from None
    except OSError as error:
        # The path of the error is the more precise one, but a temporary name helps nobody.
        reason = error.strerror or str(error) or type(error).__name__
        raise InputError(
            f'{shorten(os.fspath(path), 300)}: {reason[0].lower()}{reason[1:]}'
        ) from None


@contextlib.contextmanager
def open_file(path: PathLike) -> Iterator[BinaryIO]:
    """Opens a regular file for reading; never waits for a pipe's other end.

    Raises:
      InputError: naming the path, if it is anything but a readable regular file, and if reading
        it fails inside the block.
    """
    with one_line_errors(path):
        try:
            file = open(path, 'rb', opener=_open_without_waiting)  # noqa: SIM115
        except IsADirectoryError:
            raise InputError(f'{os.fspath(path)}: is a directory, expected a file') from None
        except ValueError:  # a null byte or a lone surrogate, which no file's name has
            raise InputError(f'{shorten(os.fspath(path))}: is no name of a file') from None
        with file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f'{os.fspath(path)}: is a pipe or a device, expected a file')
            yield file


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a path, also a pipe that nobody writes to."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_bytes(path: PathLike, most: int) -> bytes:
    """Returns the content of a regular file.

    Args:
      path: the file.
      most: its largest size, bytes.

    Raises:
      InputError: as `open_file`, and if the file is larger.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise InputError(f'{os.fspath(path)}: has {size} bytes, expected at most {most}')
        data = file.read(most + 1)
    if len(data) > most:  # one that says 0 bytes, as below /proc, or grows meanwhile
        raise InputError(f'{os.fspath(path)}: has more than {most} bytes')
    return data
