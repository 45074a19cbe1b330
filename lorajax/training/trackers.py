"""Where people look at metrics beside metrics.jsonl: TensorBoard, and Weights & Biases.

The libraries are the vendors' own, or what reads like it (tensorboardX needs no TensorFlow). They
come with the extra `[metrics]` and are imported here alone, when they are asked for.
"""

import fcntl
import functools
import importlib
import pathlib
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TextIO

from lorajax.errors import ArgumentError

TRACKERS = ('tensorboard', 'wandb')
_MODULES = {'tensorboard': 'tensorboardX', 'wandb': 'wandb'}


class Tracker(Protocol):
    """Takes numbers over time."""

    def log(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Takes the numbers of one step; each group counts steps of its own."""

    def close(self) -> None:
        """Writes what is not written yet."""


class _TensorBoard:
    """Event files below `DIRECTORY/tensorboard`."""

    def __init__(self, library: Any, directory: pathlib.Path) -> None:
        self._writer = library.SummaryWriter(str(directory / 'tensorboard'))

    def log(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars named GROUP/NAME."""
        for name, value in values.items():
            self._writer.add_scalar(f'{group}/{name}', value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


class _WeightsAndBiases:
    """A run of Weights & Biases; `WANDB_MODE=offline` and the like are for its own library.

    Its id is kept in `DIRECTORY/wandb/run-id`, so that work that is taken up again goes on in it.
    """

    def __init__(self, library: Any, directory: pathlib.Path) -> None:
        path = directory / 'wandb' / 'run-id'
        path.parent.mkdir(parents=True, exist_ok=True)
        self._held = open(path, 'a+', encoding='utf-8')  # noqa: SIM115  as long as the run
        self._run = library.init(
            project='lorajax',
            name=directory.name.removesuffix('.state'),
            dir=str(directory),
            id=_claim(self._held),
            resume='allow',
        )
        self._groups: set[str] = set()

    def log(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Logs numbers over a step of their group: its own steps may never go back."""
        if group not in self._groups:
            self._groups.add(group)
            self._run.define_metric(f'{group}/step')
            self._run.define_metric(f'{group}/*', step_metric=f'{group}/step')
        self._run.log(
            {f'{group}/step': step} | {f'{group}/{name}': v for name, v in values.items()}
        )

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()
        self._held.close()


def _claim(file: TextIO) -> str | None:
    """Returns the id that a file keeps, a new one where it is empty or damaged.

    None, for a run of its own, while another process holds the file: one run has one writer.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    file.seek(0)
    found = file.read()
    if not re.fullmatch('[0-9a-f]{16}', found):
        found = uuid.uuid4().hex[:16]
        file.truncate(0)
        file.write(found)
        file.flush()
    return found


_KINDS: Mapping[str, Callable[[Any, pathlib.Path], Tracker]] = {
    'tensorboard': _TensorBoard,
    'wandb': _WeightsAndBiases,
}


def check(names: Sequence[str]) -> None:
    """Refuses trackers whose library is not installed.

    Raises:
      ArgumentError: naming it and how to get it.
    """
    for name in names:
        _library(name)


@functools.cache
def open_tracker(name: str, directory: pathlib.Path) -> Tracker:
    """Returns the tracker of a directory, the same until `close_all`.

    Args:
      name: of `TRACKERS`.
      directory: below which it writes; the last part of its path names the run.

    Raises:
      ArgumentError: if its library is not installed.
    """
    tracker = _KINDS[name](_library(name), directory)
    _open.append(tracker)
    return tracker


_open: list[Tracker] = []


def close_all() -> None:
    """Closes all trackers of this process."""
    open_tracker.cache_clear()
    while _open:
        _open.pop().close()


def numbers(event: str, values: Mapping[str, Any]) -> tuple[str, int, dict[str, float]] | None:
    """Returns group, step and numbers of a row of metrics; None if it is of no step.

    Args:
      event: kind of the row. Numbers of others than 'train' have its name in theirs.
      values: the row's fields. A list of losses has its names in 'tasks'.
    """
    if 'step' not in values:
        return None
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            entries: Any = value.items()
        elif name == 'loss' and isinstance(value, list):
            entries = zip(values['tasks'], value, strict=True)
        else:
            entries = [('', value)]
        for key, number in entries:
            if name != 'step' and isinstance(number, int | float):
                label = name if event == 'train' else f'{event}_{name}'
                found[f'{label}/{key}' if key else label] = float(number)
    return str(values.get('side', 'run')), int(values['step']), found


def _library(name: str) -> Any:
    """Imports a vendor's library."""
    try:
        return importlib.import_module(_MODULES[name])
    except ImportError:
        raise ArgumentError(
            'report_to', name, f"needs {_MODULES[name]}: pip install 'lorajax[metrics]'"
        ) from None
