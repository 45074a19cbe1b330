"""The process that runs a program of the model; `lorajax.sandbox.runner` starts it.

It is told which function to call with which arguments, and answers with values. It never sees
a test, an expected value or a verdict, so a program that exits, patches `assert` or `__eq__`,
walks the frames or closes every descriptor can only fail to answer.

Imports the standard library and its neighbours alone: a worker starts in 30 ms.
"""

import builtins
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from lorajax.sandbox import confinement, protocol

_LONGEST_ITERATION = 1_000_000  # elements of a generator that the program returns


class _Objects:
    """Objects of the worker that cannot travel, kept here and known by number."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def keep(self, value: Any) -> dict[str, Any]:
        """Returns the handle of a value."""
        self._kept.append(value)
        return {'id': len(self._kept) - 1, 'true': bool(value), 'type': type(value).__name__}

    def find(self, handle: dict[str, Any]) -> Any:
        """Returns the value of a handle, or the builtin type that the tests passed."""
        return vars(builtins)[handle['type']] if 'id' not in handle else self._kept[handle['id']]


def main(settings: dict[str, Any]) -> None:
    """Runs a program and answers calls of its functions until the judge is gone.

    Args:
      settings: numpy, readable, memory_mb and cpu_s, from `sandbox`.
    """
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    confinement.import_numpy_from(settings['numpy'])
    sys.path[:] = [entry for entry in sys.path if entry != settings['root']]
    confinement.lock(settings['readable'], settings['memory_mb'], settings['cpu_s'])
    protocol.send(answers, 'ready')
    objects, namespace = _Objects(), {'__name__': 'program', '__builtins__': builtins}
    while True:
        operation, *encoded = protocol.receive(requests)
        try:
            arguments = [protocol.decode(item, objects.find) for item in encoded]
            value = _OPERATIONS[operation](namespace, *arguments)
            reply = {'value': protocol.encode(value, objects.keep)}
        except BaseException as error:  # noqa: BLE001 whatever a foreign program raises
            name = type(error).__name__.encode('utf-8', 'backslashreplace').decode()
            reply = {'error': name, 'text': protocol.text_of(error)}
        protocol.send(answers, reply)


def _run(namespace: dict[str, Any], code: str) -> dict[str, Any]:
    """Executes code; returns what it defined."""
    exec(compile(code, '<program>', 'exec'), namespace)
    return {name: value for name, value in namespace.items() if not name.startswith('__')}


_OPERATIONS: dict[str, Callable[..., Any]] = {
    'run': _run,
    'call': lambda _, function, args, kwargs: function(*args, **kwargs),
    'get': lambda _, value, name: getattr(value, name),
    'set': lambda _, value, name, new: setattr(value, name, new),
    'iterate': lambda _, value: list(itertools.islice(value, _LONGEST_ITERATION)),
    'length': lambda _, value: len(value),
    'item': lambda _, value, key: value[key],
}
