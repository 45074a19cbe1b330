"""Damages every kind of file that a command reads, and reads it: a value or one line, nothing else.

    python -m benchmarks.fuzz [KIND ...] [--count=N | --seconds=S] [--seed=N]

A kind is a small valid directory, the files in it that are damaged one at a time, and the library's
reader. Damages are seeded: some know JSON (another value in a field, a field gone, a name twice),
some know safetensors (the same in its header), some flip, cut, repeat or insert bytes. One line a
kind is printed: how many damages, how many were refused; anything but `InputError` of one line, a
read of more than some seconds, or memory far beyond the file's is a failure, printed with the
number by which it can be made again, and the exit status is 1.
"""

import contextlib
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.fuzz_damages import damage
from benchmarks.fuzz_kinds import KINDS, Kind
from lorajax.errors import InputError

MOST_SECONDS = 20  # of one read; the slowest valid one takes under one, on a busy machine three
MOST_BYTES = 1 << 30  # that the process may grow by in one read


class _TooSlow(BaseException):
    """A read took too long; no `except Exception` may stop it."""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Ends the block after some seconds."""

    def stop(*_: Any) -> None:
        raise _TooSlow(f'more than {MOST_SECONDS} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak() -> int:
    """Returns the most memory that this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempt(kind: Kind, path: pathlib.Path) -> tuple[bool, str | None]:
    """Reads a directory.

    Returns:
      Whether it was refused, and what went wrong, if anything.
    """
    before = _peak()
    is_refused = False
    try:
        with _limited():
            kind.read(path)
    except InputError as error:
        is_refused = True
        line = str(error)
        if '\n' in line or len(line) > 1000:
            return True, f'a line of {len(line)} characters: {line[:200]!r}'
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 what the search is for, a panic of Rust code included
        return False, traceback.format_exc(limit=-6)
    grown = _peak() - before
    return is_refused, f'{grown >> 20} MiB more memory' if grown > MOST_BYTES else None


def search(
    kind: Kind, seed: int, count: int, seconds: float = float('inf')
) -> tuple[int, int, list[str]]:
    """Damages the files of a kind one at a time.

    Args:
      kind: what to damage.
      seed: of the first damage; the next have the next numbers.
      count: how many.
      seconds: after which to stop before that.

    Returns:
      How many were tried, how many of them refused, and what went wrong.
    """
    failures = []
    tried = refused = 0
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as root:
        valid = pathlib.Path(root) / 'valid'
        valid.mkdir()
        kind.write(valid)
        path = pathlib.Path(root) / 'copy'
        shutil.copytree(valid, path)
        kind.read(path)  # also imports what it needs, which takes seconds
        for number in range(seed, seed + count):
            if time.monotonic() > end:
                break
            rng = np.random.default_rng(number)
            name = kind.files[int(rng.integers(len(kind.files)))]
            shutil.rmtree(path)
            path = pathlib.Path(root) / str(number)  # readers may remember what lay at a path
            shutil.copytree(valid, path)
            (path / name).write_bytes(damage((valid / name).read_bytes(), name, rng))
            is_refused, problem = attempt(kind, path)
            tried, refused = tried + 1, refused + is_refused
            if problem:
                failures.append(f'{name}, seed {number}: {problem}')
    return tried, refused, failures


_COUNT = flags.DEFINE_integer('count', 1000, 'damages of each kind')
_SECONDS = flags.DEFINE_float('seconds', 0.0, 'of each kind, instead of a number of damages')
_SEED = flags.DEFINE_integer('seed', 0, 'of the first damage')


def main(arguments: list[str]) -> None:
    names = arguments[1:] or list(KINDS)
    print('| files | damages | refused | uncaught, slow or large |\n| --- | ---: | ---: | ---: |')
    failed = False
    for name in names:
        count = 10**9 if _SECONDS.value else _COUNT.value
        tried, refused, failures = search(
            KINDS[name], _SEED.value, count, _SECONDS.value or float('inf')
        )
        print(f'| {name} | {tried} | {refused} | {len(failures)} |', flush=True)
        for failure in failures[:5]:
            print(failure, file=sys.stderr)
        failed |= bool(failures)
    sys.exit(int(failed))


if __name__ == '__main__':
    app.run(main)
