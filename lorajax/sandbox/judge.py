"""The process that runs tests; `lorajax.sandbox.runner` starts it.

In a test the functions of the model's program are proxies that ask the worker process
(`lorajax.sandbox.worker`) and get plain values back (`lorajax.sandbox.protocol`). All comparing
happens here, among values that cannot compare themselves.
"""

import array
import builtins
import functools
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from lorajax.sandbox import confinement, protocol


class ProgramError(Exception):
    """The program raised something.

    One class for everything: were a StopIteration raised here as itself, it would end a
    test's `all(map(...))` early and so pass it.
    """


class Timeout(BaseException):
    """The time of a test is over; no test catches it by catching Exception."""


class _Worker:
    """The judge's end of the pipes to a worker process."""

    def __init__(self, requests: int, answers: int) -> None:
        """Takes the descriptors; they are closed by `close`."""
        self._descriptors = requests, answers

    def close(self) -> None:
        """Hangs up."""
        for descriptor in self._descriptors:
            os.close(descriptor)

    def wait(self) -> None:
        """Waits until the process is locked in and ready."""
        if protocol.receive(self._descriptors[1]) != 'ready':
            raise protocol.ProtocolError('the worker process did not start')

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Has the worker do something; returns a plain value or a `_Remote`."""
        requests, answers = self._descriptors
        protocol.send(
            requests, [operation, *(protocol.encode(a, self._handle_of) for a in arguments)]
        )
        reply = protocol.receive(answers)
        if not isinstance(reply, dict):
            raise protocol.ProtocolError('not a reply')
        if 'value' not in reply:
            error, text = str(reply.get('error'))[:60], str(reply.get('text'))[:200]
            raise ProgramError(f'{error}: {text}')
        return protocol.decode(reply['value'], self._remote)

    def _remote(self, handle: Any) -> '_Remote':
        """The proxy of an object of the worker."""
        if not isinstance(handle, dict):
            raise protocol.ProtocolError('not a handle')
        return _Remote(self, handle)

    def _handle_of(self, value: Any) -> Any:
        """The handle of what a proxy stands for, or of a builtin type."""
        if type(value) is _Remote:
            return object.__getattribute__(value, '_handle')
        name = getattr(value, '__name__', '')
        if isinstance(value, type) and vars(builtins).get(name) is value:
            return {'type': name}
        raise TypeError(f'a {type(value).__name__} cannot be passed to the worker')


class _Remote:
    """An object that lives in the worker process: a function, a class, an instance.

    Equal to itself only: comparisons belong to the tests.
    """

    __slots__ = ('_handle', '_worker')

    def __init__(self, worker: _Worker, handle: dict[str, Any]) -> None:
        object.__setattr__(self, '_worker', worker)
        object.__setattr__(self, '_handle', handle)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._worker.ask('call', self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return self._worker.ask('get', self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._worker.ask('set', self, name, value)

    def __iter__(self) -> Any:
        return iter(self._worker.ask('iterate', self))

    def __len__(self) -> int:
        try:
            return self._worker.ask('length', self)
        except ProgramError as error:  # `list` asks, and takes a TypeError for "unknown"
            raise TypeError(str(error)) from None

    def __getitem__(self, key: Any) -> Any:
        return self._worker.ask('item', self, key)

    def __bool__(self) -> bool:
        return self._handle.get('true') is True

    def __repr__(self) -> str:
        return f'<{str(self._handle.get("type"))[:40]} of the program>'


def main(settings: dict[str, Any]) -> None:
    """Judges one program after the other until the sandbox hangs up.

    Each job arrives on the socket as two descriptors of a worker's pipes and a message
    {'code', 'names', 'prelude', 'tests': {name: code}, 'timeout_s', 'start_s'}. One message
    answers each step: the worker's start, the program's first run, each test in order; None if
    it went well, else a line that says why not. So a judge that hangs in C code, where no
    signal is seen, can be ended from outside without losing what it has found.

    Args:
      settings: socket (descriptor), numpy, readable and memory_mb, from `sandbox`.
    """
    connection = socket.socket(fileno=settings['socket'])
    confinement.import_numpy_from(settings['numpy'])
    sys.path[:] = [entry for entry in sys.path if entry != settings['root']]
    signal.signal(signal.SIGALRM, _raise_timeout)
    null = os.open(os.devnull, os.O_RDWR)
    active = confinement.lock(settings['readable'], settings['memory_mb'], None)
    if settings['numpy'] is not None:
        _harden_numpy()
    descriptor = connection.fileno()
    protocol.send(descriptor, active)
    os.dup2(null, 2)  # until here a traceback told the sandbox why
    while True:
        try:
            descriptors = _receive_descriptors(connection)
            job = protocol.receive(descriptor)
        except EOFError:
            return
        remote = _Worker(*descriptors)
        for failure in _judge(remote, job):
            protocol.send(descriptor, failure)
        remote.close()


def _receive_descriptors(connection: socket.socket) -> list[int]:
    """Receives the two descriptors that open a job."""
    found = array.array('i')
    message, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(2 * found.itemsize))
    if not message:
        raise EOFError('the sandbox hung up')
    for _, _, data in ancillary:
        found.frombytes(data)
    return list(found)


def _raise_timeout(signum: int, frame: FrameType | None) -> None:
    """Ends a test that takes too long."""
    raise Timeout


def _harden_numpy() -> None:
    """Makes the comparisons of numpy compare shapes first.

    The tests of MBPP+ call np.allclose(out, exp) where exp is a float, and broadcasting makes
    an empty list close to everything. Operators stay as they are: `(out == exp).all()` is True
    of an empty array.
    """
    import numpy as np

    def equal_shapes(compare: Callable[..., Any], otherwise: Any) -> Callable[..., Any]:
        @functools.wraps(compare)
        def compared(a: Any, b: Any, *rest: Any, **options: Any) -> Any:
            return compare(a, b, *rest, **options) if np.shape(a) == np.shape(b) else otherwise

        return compared

    np.allclose = equal_shapes(np.allclose, False)
    np.array_equiv = equal_shapes(np.array_equiv, False)
    np.isclose = equal_shapes(np.isclose, np.zeros(1, bool))


def _harden_numpy_testing() -> None:
    """Does the same to the functions of numpy.testing that broadcast a number."""
    import numpy as np

    def equal_shapes(check: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(check)
        def checked(actual: Any, desired: Any, *rest: Any, **options: Any) -> None:
            assert np.shape(actual) == np.shape(desired), 'shapes differ'
            check(actual, desired, *rest, **options)

        return checked

    for name in _BROADCASTING:
        check = getattr(np.testing, name)
        if not hasattr(check, '__wrapped__') or check.__wrapped__.__name__ != name:
            setattr(np.testing, name, equal_shapes(check))


_BROADCASTING = (
    'assert_allclose', 'assert_almost_equal', 'assert_array_almost_equal', 'assert_array_equal',
    'assert_array_less', 'assert_equal',
)  # fmt: skip


def _judge(remote: _Worker, job: dict[str, Any]) -> Iterator[str | None]:
    """Yields how each step went, up to the first of the first two that failed."""
    failure = _reason(remote.wait, job['start_s'])
    yield failure
    if failure is not None:
        return
    defined: dict[str, Any] = {}

    def define() -> None:
        value = remote.ask('run', f'{job["prelude"]}\n{job["code"]}')
        if not isinstance(value, dict):
            raise protocol.ProtocolError('not a namespace')
        defined.update({name: value[name] for name in job['names'] if name in value})

    failure = _reason(define, job['timeout_s'])
    yield failure
    if failure is not None:
        return
    for code in job['tests'].values():
        if failure is None or not failure.startswith('timeout'):  # else it is still busy
            failure = _reason(functools.partial(_test, code, defined), job['timeout_s'])
        yield failure


def _test(code: str, defined: dict[str, Any]) -> None:
    """Executes a test program; the functions of the worker are proxies in it."""
    if 'numpy' in sys.modules and 'testing' in code:  # slow to import, so only if it is used
        _harden_numpy_testing()
    names = {**defined, '__name__': 'tests', '__builtins__': builtins}
    exec(compile(code, '<tests>', 'exec'), names)


def _reason(action: Callable[[], None], seconds: float) -> str | None:
    """Runs `action` for at most `seconds`; returns why it failed, None if it did not."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            action()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Timeout:
        return f'timeout: more than {seconds:g} s'
    except AssertionError as error:
        return f'assertion: {protocol.text_of(error)}'
    except ProgramError as error:
        return f'error: {protocol.text_of(error, 300)}'
    except (EOFError, BrokenPipeError):
        return 'exit: the program ended its process'
    except BaseException as error:  # noqa: BLE001 whatever a test program raises
        return f'{type(error).__name__}: {protocol.text_of(error)}'
    return None
