"""Anchors of the user's own: `DIR/<task>/{source,target}`, adapters in PEFT format."""

import functools
import pathlib
from collections.abc import Callable, Mapping

from lorajax.errors import InputError
from lorajax.lora import load_peft
from lorajax.types import Adapter

SIDES = ('source', 'target')
Loaders = Mapping[str, Callable[[], Adapter]]


def read(directory: pathlib.Path) -> tuple[Loaders, Loaders, dict[str, str]]:
    """Finds pairs of adapters of the same task on two base models.

    Args:
      directory: holds one directory per task, with the adapters `source` and `target`.

    Returns:
      Task -> function that reads the adapter, for source and target; the two base models' names.

    Raises:
      InputError: if there is no directory of pairs, half of a pair is missing, a file cannot be
        read, or adapters of a side belong to different base models.
    """
    if not directory.is_dir():
        raise InputError(f'--pairs={directory}: no such directory')
    tasks = sorted(p.name for p in directory.iterdir() if p.is_dir() and p.name[0] != '.')
    if not tasks:
        raise InputError(f'--pairs={directory}: is empty, expected <task>/{{source,target}}')
    bases: dict[str, str] = {}
    for side in SIDES:
        for task in tasks:
            path = directory / task / side
            if not path.is_dir():
                raise InputError(f'{path}: is missing, expected an adapter in PEFT format')
            found = load_peft(path)[0].base_model or 'unknown'
            if bases.setdefault(side, found) != found:
                raise InputError(
                    f'{path}: belongs to {found!r}, the other {side} adapters to {bases[side]!r}'
                )
    source, target = (
        {task: functools.partial(_load, directory / task / side) for task in tasks}
        for side in SIDES
    )
    return source, target, bases


def _load(path: pathlib.Path) -> Adapter:
    """Reads the factors of an adapter."""
    return load_peft(path)[1]
