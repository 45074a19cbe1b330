"""Files of others: opened only if they are files, and every failure is one line with the path."""

import contextlib
import os
import pathlib
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
    """Opens a regular file for reading, unbuffered; never waits for a pipe's other end.

    Raises:
      InputError: naming the path, if it is anything but a readable regular file, and if reading
        it fails inside the block.
    """
    with one_line_errors(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except ValueError:  # a null byte or a lone surrogate, which no file's name has
            raise InputError(f'{shorten(os.fspath(path))}: is no name of a file') from None
        with open(descriptor, 'rb', buffering=0) as file:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise InputError(f'{os.fspath(path)}: is a directory, expected a file')
            if not stat.S_ISREG(mode):
                raise InputError(f'{os.fspath(path)}: is a pipe or a device, expected a file')
            yield file


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
            raise InputError(f'{pathlib.Path(path)}: has {size} bytes, expected at most {most}')
        parts = []
        while part := file.read(most + 1 - sum(map(len, parts))):
            parts.append(part)
    return b''.join(parts)
