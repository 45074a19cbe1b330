"""Anchors of the user's own, adapters in PEFT format.

They lie in `DIR/<task>/{source,target}`, or in `DIR/{source,target}/<task>` as a run has them. In
place of an adapter there may be a directory of several trainings of it, whose mean update is taken:
what they have in common is the task, and what they differ in is noise.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lorajax.errors import ArgumentError, InputError
from lorajax.lora import load_peft
from lorajax.types import Adapter

SIDES = ('source', 'target')
Loaders = Mapping[str, Callable[[], Adapter]]


def read(directory: pathlib.Path) -> tuple[Loaders, Loaders, dict[str, str]]:
    """Finds pairs of adapters of the same task on two base models.

    Args:
      directory: holds one directory per task, with the adapters `source` and `target`; or these
        two directories, with one adapter per task in each.

    Returns:
      Task -> function that reads the adapter, for source and target; the two base models' names.

    Raises:
      ArgumentError: if there is no directory of pairs.
      InputError: if half of a pair is missing, a file cannot be read, or adapters of a side
        belong to different base models.
    """
    if not directory.is_dir():
        raise ArgumentError('pairs', directory, 'no such directory')
    tasks, place = _layout(directory)
    if not tasks:
        raise ArgumentError('pairs', directory, 'holds no <task>/{source,target}')
    bases: dict[str, str] = {}
    for side in SIDES:
        for task in tasks:
            path = place(task, side)
            if not path.is_dir():
                raise InputError(f'{path}: is missing, expected an adapter in PEFT format')
            for training in _trainings(path):
                base = load_peft(training)[0].base_model or 'unknown'
                if bases.setdefault(side, base) != base:
                    raise InputError(
                        f'{training}: belongs to {base!r}, the other {side} adapters to '
                        f'{bases[side]!r}'
                    )
    source, target = (
        {task: functools.partial(_load, place(task, side)) for task in tasks} for side in SIDES
    )
    return source, target, bases


def _layout(
    directory: pathlib.Path,
) -> tuple[list[str], Callable[[str, str], pathlib.Path]]:
    """Returns the names of tasks, and where the adapter of a task and a side lies."""
    sides = [directory / side for side in SIDES]
    if all(side.is_dir() for side in sides):
        names = {name for side in sides for name in _directories(side)}
        return sorted(names), lambda task, side: directory / side / task
    return _directories(directory), lambda task, side: directory / task / side


def _directories(directory: pathlib.Path) -> list[str]:
    """Returns the names of visible directories, sorted."""
    return sorted(p.name for p in directory.iterdir() if p.is_dir() and p.name[0] != '.')


def _trainings(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the directories of the trainings of one adapter, itself if it is one."""
    several = _directories(path)
    if (path / 'adapter_config.json').exists() or not several:
        return [path]
    return [path / name for name in several]


def _load(path: pathlib.Path) -> Adapter:
    """Reads the factors of an adapter, or of the mean update of several."""
    trainings = _trainings(path)
    adapters = [load_peft(training)[1] for training in trainings]
    for training, adapter in zip(trainings, adapters, strict=True):
        if adapter['layers'].keys() != adapters[0]['layers'].keys():
            raise InputError(f'{training}: has other projections than {trainings[0]}')
    return mean_update(adapters)


def mean_update(adapters: Sequence[Adapter]) -> Adapter:
    """Returns the mean of updates, exactly; its rank is the sum of theirs.

    Args:
      adapters: on the host, with the same projections.
    """
    if len(adapters) == 1:
        return adapters[0]
    entries = {name: [a['layers'][name] for a in adapters] for name in adapters[0]['layers']}
    return {
        'layers': {
            name: {
                'a': np.concatenate([entry['a'] for entry in some], axis=-1),
                'b': np.concatenate([entry['b'] for entry in some], axis=-2) / len(some),
            }
            for name, some in entries.items()
        }
    }
