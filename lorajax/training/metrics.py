"""What a training leaves behind while it works: JSON lines of losses and speed."""

import json
import pathlib
import resource
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import monitoring

from lorajax.errors import InputError
from lorajax.training import trackers
from lorajax.training.packing import Pack


class MetricWriter:
    """Appends one JSON object a line to a file, flushed at once."""

    def __init__(
        self,
        path: pathlib.Path | None,
        report_to: Sequence[str] = (),
        directory: pathlib.Path | None = None,
    ) -> None:
        """Writes to a file and to trackers.

        Args:
          path: of the file; none if None.
          report_to: names of `trackers.TRACKERS`.
          directory: below which trackers write; that of the file if None.

        Raises:
          ArgumentError: if the library of a tracker is not installed.
        """
        self._path = path
        below = directory or (path.parent if path else pathlib.Path())
        self._trackers = [trackers.open_tracker(name, below) for name in report_to]
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, event: str, **values: Any) -> None:
        """Appends {"event": event, "time": seconds since the epoch, **values}."""
        if self._path:
            row = {'event': event, 'time': round(time.time(), 3), **values}
            with open(self._path, 'a', encoding='utf-8') as file:
                file.write(json.dumps(row) + '\n')
        if found := trackers.numbers(event, values):
            for tracker in self._trackers:
                tracker.log(*found)


class CompileClock:
    """Counts the programs that are compiled while it is entered, and the seconds.

    Attributes:
      seconds: of compiling, and of reading programs from the disk.
      num_cached: programs taken from the disk.
      elapsed: seconds since it was entered, of the whole stay once it is left.
    """

    seconds = 0.0
    num_cached = 0
    _num_asked = 0

    def __enter__(self) -> 'CompileClock':
        self._start = time.monotonic()
        self._stop: float | None = None
        monitoring.register_event_duration_secs_listener(self._add_seconds)
        monitoring.register_event_listener(self._add_event)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop = time.monotonic()
        monitoring.unregister_event_duration_listener(self._add_seconds)
        monitoring.unregister_event_listener(self._add_event)

    @property
    def elapsed(self) -> float:
        """Seconds since it was entered."""
        return (time.monotonic() if self._stop is None else self._stop) - self._start

    def values(self) -> dict[str, float]:
        """Returns what metrics.jsonl says of it."""
        return {
            'seconds': round(self.elapsed, 2),
            'compile_count': self._num_asked - self.num_cached,
            'compile_seconds': round(self.seconds, 2),
            'compile_cached': self.num_cached,
        }

    def _add_seconds(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == '/jax/core/compile/backend_compile_duration':
            self.seconds += duration_secs
            self._num_asked += 1

    def _add_event(self, event: str, **_: str | int) -> None:
        self.num_cached += event == '/jax/compilation_cache/cache_hits'


class LossWindow:
    """Gathers losses and token counts between two reads of the device."""

    def __init__(self, label: str, tasks: Sequence[str], metrics: MetricWriter) -> None:
        """Watches the adapters of `tasks`, in their order."""
        self._label, self._tasks, self._metrics = label, list(tasks), metrics
        self._reset()

    def _reset(self) -> None:
        self._losses: list[jax.Array] = []
        self._occupants: list[np.ndarray] = []
        self._real = self._all = 0
        self._start = time.monotonic()

    def add(self, pack: Pack, loss: jax.Array, occupants: np.ndarray) -> None:
        """Records a step without waiting for the device.

        Args:
          pack: on the host.
          loss: float32[places], nats per answer token.
          occupants: int64[places], the number of the task in each place; -1 for none, whose loss
            does not count.
        """
        self._losses.append(loss)
        self._occupants.append(occupants)
        self._real += int(np.count_nonzero(pack.segment_ids))
        self._all += pack.segment_ids.size

    def flush(self, step: int, num_compiled: int, clock: CompileClock) -> dict[str, str]:
        """Writes the means since the last flush and returns what a progress bar shows.

        Args:
          step: the last step that was added, counted from 0.
          num_compiled: programs of the step that this process holds.
          clock: runs since the training began.

        Raises:
          InputError: naming task and step, for the first loss that is not finite.
        """
        losses = np.stack([np.asarray(x) for x in self._losses])
        occupants = np.stack(self._occupants)
        active = occupants >= 0
        if bad := np.argwhere(~np.isfinite(losses) & active).tolist():
            row, place = bad[0]
            raise InputError(
                f'{self._label}: loss of {self._tasks[occupants[row, place]]} is '
                f'{losses[row, place]} at step {step + 1 - len(losses) + row}; try a lower '
                'learning rate'
            )
        counts = np.bincount(occupants[active], minlength=len(self._tasks))
        sums = np.bincount(occupants[active], losses[active], len(self._tasks))
        means = sums / np.maximum(counts, 1)
        seconds = max(time.monotonic() - self._start, 1e-9)
        self._metrics.write(
            'train',
            side=self._label,
            step=step + 1,
            tasks=self._tasks,
            loss=[
                float(f'{mean:.7g}') if count else None  # 7 digits are all that float32 holds
                for mean, count in zip(means, counts, strict=True)
            ],
            tokens_per_second=round(self._real / seconds, 1),
            padding_share=round(1 - self._real / self._all, 4),
            compile_count=num_compiled,
            compile_seconds=round(clock.seconds, 2),
            compile_cached=clock.num_cached,
            **_memory(),
        )
        values = {
            'loss': f'{means[counts > 0].mean():.3f}',
            'tokens/s': f'{self._real / seconds:,.0f}',
        }
        self._reset()
        return values


def _memory() -> dict[str, int]:
    """Returns the peak of device memory in bytes where the device says it, else of the host."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if 'peak_bytes_in_use' in stats:
        return {'device_peak_bytes': stats['peak_bytes_in_use']}
    return {'host_peak_bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
