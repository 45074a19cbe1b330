"""What a run says while it works: JSON lines always, a progress bar on a terminal."""

import json
import pathlib
import time
from typing import Any


class MetricWriter:
    """Appends one JSON object a line to a file, flushed at once."""

    def __init__(self, path: pathlib.Path | None) -> None:
        """Writes to `path`; nowhere if it is None."""
        self._path = path
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, event: str, **values: Any) -> None:
        """Appends {"event": event, "time": seconds since the epoch, **values}."""
        if self._path:
            row = {'event': event, 'time': round(time.time(), 3), **values}
            with open(self._path, 'a', encoding='utf-8') as file:
                file.write(json.dumps(row) + '\n')
