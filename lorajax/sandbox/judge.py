"""The process that runs tests; `lorajax.sandbox.runner` starts it.

In a test the functions of the model's program are proxies that ask the candidate process
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
from collections.abc import Callable
from types import FrameType
from typing import Any

from lorajax.sandbox import confinement, protocol


class CandidateError(Exception):
    """The candidate raised something.

    One class for everything: were a StopIteration raised here as itself, it would end a
    test's `all(map(...))` early and so pass it.
    """


class Timeout(BaseException):
    """The time of a test is over; no test catches it by catching Exception."""


class _Candidate:
    """The tester's end of the pipes to a candidate process."""

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
            raise protocol.WireError('the candidate process did not start')

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Has the candidate do something; returns a plain value or a `_Remote`."""
        requests, answers = self._descriptors
        protocol.send(
            requests, [operation, *(protocol.encode(a, self._handle_of) for a in arguments)]
        )
        reply = protocol.receive(answers)
        if not isinstance(reply, dict):
            raise protocol.WireError('not a reply')
        if 'value' not in reply:
            error, text = str(reply.get('error'))[:60], str(reply.get('text'))[:200]
            raise CandidateError(f'{error}: {text}')
        return protocol.decode(reply['value'], self._remote)

    def _remote(self, handle: Any) -> '_Remote':
        """The proxy of an object of the candidate."""
        if not isinstance(handle, dict):
            raise protocol.WireError('not a handle')
        return _Remote(self, handle)

    def _handle_of(self, value: Any) -> Any:
        """The handle of what a proxy stands for, or of a builtin type."""
        if type(value) is _Remote:
            return object.__getattribute__(value, '_handle')
        name = getattr(value, '__name__', '')
        if isinstance(value, type) and vars(builtins).get(name) is value:
            return {'type': name}
        raise TypeError(f'a {type(value).__name__} cannot be passed to the candidate')


class _Remote:
    """An object that lives in the candidate process: a function, a class, an instance.

    Equal to itself only: comparisons belong to the tests.
    """

    __slots__ = ('_candidate', '_handle')

    def __init__(self, candidate: _Candidate, handle: dict[str, Any]) -> None:
        object.__setattr__(self, '_candidate', candidate)
        object.__setattr__(self, '_handle', handle)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._candidate.ask('call', self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return self._candidate.ask('get', self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._candidate.ask('set', self, name, value)

    def __iter__(self) -> Any:
        return iter(self._candidate.ask('iterate', self))

    def __len__(self) -> int:
        try:
            return self._candidate.ask('length', self)
        except CandidateError as error:  # `list` asks, and takes a TypeError for "unknown"
            raise TypeError(str(error)) from None

    def __getitem__(self, key: Any) -> Any:
        return self._candidate.ask('item', self, key)

    def __bool__(self) -> bool:
        return self._handle.get('true') is True

    def __repr__(self) -> str:
        return f'<{str(self._handle.get("type"))[:40]} of the candidate>'


def main(settings: dict[str, Any]) -> None:
    """Judges one program after the other until the sandbox hangs up.

    Each job arrives on the socket as two descriptors of a candidate's pipes and a message
    {'code', 'names', 'prelude', 'tests': {name: code}, 'timeout_s', 'start_s'}; the reply is
    {name: None if the tests passed, else a line that says why not}.

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
        remote = _Candidate(*descriptors)
        reply = _judge(remote, job)
        remote.close()
        protocol.send(descriptor, reply)


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
    """Makes `allclose` compare shapes too.

    The tests of MBPP+ call np.allclose(out, exp) where exp is a float, and broadcasting makes
    an empty list close to everything.
    """
    import numpy as np

    close = np.allclose

    def allclose(a: Any, b: Any, **tolerances: Any) -> bool:
        return np.shape(a) == np.shape(b) and bool(close(a, b, **tolerances))

    np.allclose = allclose  # type: ignore[assignment]


def _judge(remote: _Candidate, job: dict[str, Any]) -> dict[str, str | None]:
    """Runs each test program against the candidate; a reason for each that fails."""
    names = list(job['tests'])
    failure = _reason(remote.wait, job['start_s'])
    if failure is not None:
        return dict.fromkeys(names, f'sandbox: {failure}')
    defined: dict[str, Any] = {}

    def define() -> None:
        value = remote.ask('run', f'{job["prelude"]}\n{job["code"]}')
        if not isinstance(value, dict):
            raise protocol.WireError('not a namespace')
        defined.update({name: value[name] for name in job['names'] if name in value})

    failure = _reason(define, job['timeout_s'])
    if failure is not None:
        return dict.fromkeys(names, failure)
    reasons: dict[str, str | None] = {}
    for name, code in job['tests'].items():
        if failure is None or not failure.startswith('timeout'):  # else it is still busy
            failure = _reason(functools.partial(_test, code, defined), job['timeout_s'])
        reasons[name] = failure
    return reasons


def _test(code: str, defined: dict[str, Any]) -> None:
    """Executes a test program; the functions of the candidate are proxies in it."""
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
        return f'assertion: {str(error)[:200]}'
    except CandidateError as error:
        return f'error: {error}'
    except (EOFError, BrokenPipeError):
        return 'exit: the program ended its process'
    except BaseException as error:  # noqa: BLE001 whatever a test program raises
        return f'{type(error).__name__}: {str(error)[:200]}'
    return None
