"""What a long piece of work says on the way, and where it may end early.

It says it in a bar on a terminal, else in a line now and then.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from absl import logging
from tqdm import tqdm

from lorajax.errors import Interrupted

_running: list['Progress'] = []  # work that is being counted
_requests: list[Interrupted] = []  # what asks for its end
# Of several processes that work as one: what asked one of them, and how all hear of it.
_unshared: list[Interrupted] = []
_meetings: list[Callable[[int], int]] = []


def meet_by(most: Callable[[int], int]) -> None:
    """Makes work that is counted end only where several processes have agreed on it, in `meet`.

    Args:
      most: returns the largest of the numbers that all processes call it with.
    """
    _meetings[:] = [most]


def meet() -> None:
    """Hears whether any of several processes was asked to end; all must call it as often.

    For a single process it does nothing.
    """
    if _meetings and not _requests:
        asked = _unshared[0].status - 128 if _unshared else 0
        if number := _meetings[0](asked):
            _requests.append(Interrupted(number))


def interrupt(reason: Interrupted) -> None:
    """Ends the work at a place where its state is whole.

    Work that is counted ends at its next step, other work here and now. An exception that a
    signal handler raised in the middle of a step could be lost in a callback of a library.

    Args:
      reason: raised there.

    Raises:
      Interrupted: the reason, if nothing is being counted.
    """
    if not _running:
        _requests.append(reason)
        raise reason
    (_unshared if _meetings else _requests).append(reason)


class Progress:
    """A tqdm bar on a terminal; elsewhere a log line now and then."""

    def __init__(self, label: str, total: int, initial: int = 0, every_seconds: float = 10.0):
        """Shows `label` and counts from `initial` to `total`."""
        self._label, self._total, self._done = label, total, initial
        self._values: dict[str, Any] = {}
        self._every, self._last = every_seconds, time.monotonic()
        self._began = self._first = initial
        self._start = self._last
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=initial, desc=label, leave=False)

    @property
    def is_interrupted(self) -> bool:
        """Whether the next step will be the last, so that its state should be saved."""
        return bool(_requests)

    def update(self, count: int = 1, **values: Any) -> None:
        """Advances by `count` and shows values such as the loss.

        Raises:
          Interrupted: after a step (a `count` above 0), if `interrupt` was called before.
        """
        if count and self._done == self._began:  # time is counted from here: it was compiled before
            self._first, self._start = self._done + count, time.monotonic()
        self._done += count
        self._values |= values
        if self._bar is not None:
            self._bar.update(count)
            if values:
                self._bar.set_postfix(values, refresh=False)
        elif time.monotonic() - self._last > self._every:
            self._log()
        if count and _requests:
            raise _requests[0]

    def _log(self) -> None:
        """Writes a line with the latest values."""
        values = ''.join(f', {name} {value}' for name, value in self._values.items())
        self._last = time.monotonic()
        done, left = self._done - self._first, self._total - self._done
        if done > 0 and left > 0:
            values += f', {_show(left * (self._last - self._start) / done)} left'
        logging.info('%s: %d of %d%s', self._label, self._done, self._total, values)

    def close(self) -> None:
        """Removes the bar; values such as a last loss stay on the screen as a line."""
        if self._bar is not None:
            self._bar.close()
        if self._values and self._done == self._total:
            self._log()

    def __enter__(self) -> 'Progress':
        _running.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        _running.remove(self)
        self.close()
        if kind is None and (_requests or (_unshared and not _running)):
            raise (_requests or _unshared)[0]


def _show(seconds: float) -> str:
    """Returns a duration as people say it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60} min'
