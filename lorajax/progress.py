"""What a long piece of work says on the way: a bar on a terminal, else a line now and then."""

import sys
import time
from typing import Any

from absl import logging
from tqdm import tqdm


class Progress:
    """A tqdm bar on a terminal; elsewhere a log line now and then."""

    def __init__(self, label: str, total: int, initial: int = 0, every_seconds: float = 10.0):
        """Shows `label` and counts from `initial` to `total`."""
        self._label, self._total, self._done = label, total, initial
        self._values: dict[str, Any] = {}
        self._every, self._last = every_seconds, time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=initial, desc=label, leave=False)

    def update(self, count: int = 1, **values: Any) -> None:
        """Advances by `count` and shows values such as the loss."""
        self._done += count
        self._values |= values
        if self._bar is not None:
            self._bar.update(count)
            if values:
                self._bar.set_postfix(values, refresh=False)
        elif time.monotonic() - self._last > self._every:
            self._log()

    def _log(self) -> None:
        """Writes a line with the latest values."""
        values = ''.join(f', {name} {value}' for name, value in self._values.items())
        logging.info('%s: %d of %d%s', self._label, self._done, self._total, values)
        self._last = time.monotonic()

    def close(self) -> None:
        """Removes the bar; values such as a last loss stay on the screen as a line."""
        if self._bar is not None:
            self._bar.close()
        if self._values and self._done == self._total:
            self._log()

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
