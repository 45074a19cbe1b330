"""Runs programs that a model wrote against their tests, and believes only the tests.

Each program gets a fresh interpreter, locked in by `lorajax.sandbox.confinement` before its first
line runs, and answers calls over a pipe (`lorajax.sandbox.worker`); a second locked process runs
the tests and compares (`lorajax.sandbox.judge`). Guaranteed wherever this module agrees to run
at all:

- a verdict cannot be forged: the program never meets a test, an expected value, or the
  channel of the verdict. Leaving with status 0, patching `assert` or `__eq__`, closing
  descriptors, flooding the output all fail;
- no network, no processes or threads, no signals, no writing to any file; limits on memory
  and processor time; a wall clock that ends the process group.

Not guaranteed: a program may answer correctly for the wrong reason, such as a table of the
answers that it has learnt; reading is confined only where the kernel has Landlock
(`protections` says whether), and even there `stat` tells that a file exists, its size and its
times; a flaw of the kernel breaks everything. Tests are trusted not to be hostile, though they
are locked in too. Where neither Landlock nor another user or user namespace keeps a program
from the memory of this process, nothing is run.

Programs that need threads, subprocesses or files fail here. Importing this module runs nothing.
"""

import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from lorajax.errors import InputError

_START_S = 60.0  # a process that has not started by then never will
_GRACE_S = 2.0  # beyond the judge's own clock, before it is killed itself
_JUDGE_MB = 4096

_SYSTEM_LIBRARIES = (
    '/lib', '/lib64', '/usr/lib', '/usr/lib64', '/etc/ld.so.cache', '/usr/share/zoneinfo',
    '/dev/null', '/dev/zero', '/dev/urandom', '/dev/random',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Program:
    """What to run.

    Attributes:
      code: the program of the model; it defines functions.
      names: the names defined by `code` that tests may see; nothing else that it defines can
        shadow what a test uses.
      tests: (name, test program) pairs; each is judged alone.
      prelude: trusted lines that run before `code`, such as imports.
    """

    code: str
    names: tuple[str, ...]
    tests: tuple[tuple[str, str], ...]
    prelude: str = ''


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of it: for each test program None if it passed, else a line that says why not.

    Reasons begin with their kind: assertion, empty, error (of the program), exit, timeout, or
    the name of an exception of the test program.
    """

    failures: dict[str, str | None]

    def passed(self, test: str) -> bool:
        """Returns whether a test program passed."""
        return self.failures[test] is None


class _Judge:
    """A judge process and the socket to it; it judges one program at a time."""

    def __init__(self) -> None:
        """Starts the process and waits until it is locked in.

        Raises:
          InputError: if this machine cannot confine it.
        """
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = _launch(
                'judge',
                {'socket': theirs.fileno(), 'memory_mb': _JUDGE_MB},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
            )
        self.is_usable = True
        self._socket.settimeout(_START_S)
        try:
            self.protections: dict[str, Any] = self._receive()
        except (EOFError, OSError):
            self._socket.close()
            self._process.kill()
            _, trace = self._process.communicate()
            reason = trace.decode(errors='replace').strip().rpartition('\n')[2]
            raise InputError(
                f'sandbox: cannot confine programs on this machine ({reason or "no start"}); '
                'expected Linux with seccomp and with Landlock or user namespaces, or a run that '
                'executes no code'
            ) from None

    def _receive(self) -> Any:
        """Reads one message from the judge, which is trusted."""
        return json.loads(self._read(int.from_bytes(self._read(4))))

    def _read(self, length: int) -> bytes:
        """Reads exactly `length` bytes."""
        data = b''
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def judge(
        self, program: Program, worker: 'subprocess.Popen[bytes]', timeout_s: float
    ) -> dict[str, str | None]:
        """Returns the failures of a program whose process has just been started.

        A step that takes longer than its limit, in C code where the judge's own clock is not
        heard, ends the judge (`is_usable` says so); verdicts given before it stay.

        Raises:
          InputError: if the program's process does not start.
        """
        job = {
            'code': program.code,
            'names': program.names,
            'prelude': program.prelude,
            'tests': dict(program.tests),
            'timeout_s': timeout_s,
            'start_s': _START_S,
        }
        body = json.dumps(job).encode()
        pipes = [pipe for pipe in (worker.stdin, worker.stdout) if pipe is not None]
        names = [name for name, _ in program.tests]
        failures: dict[str, str | None] = {}
        try:
            self._socket.settimeout(_START_S + _GRACE_S)
            socket.send_fds(self._socket, [b'j'], [pipe.fileno() for pipe in pipes])
            for pipe in pipes:
                pipe.close()
            self._socket.sendall(len(body).to_bytes(4) + body)
            broken = self._receive()
            if broken is not None:
                raise InputError(
                    f'sandbox: {broken}; expected the program to start within {_START_S:g} s'
                )
            self._socket.settimeout(timeout_s + _GRACE_S)
            failure = self._receive()
            if failure is not None:
                return dict.fromkeys(names, failure)
            for name in names:
                failures[name] = self._receive()
        except (EOFError, OSError):
            self.is_usable = False
            lost = 'timeout: its tests did not end, or their process died'
            return dict.fromkeys(names, lost) | failures
        return failures

    def close(self) -> None:
        """Ends the process."""
        self._socket.close()
        _end(self._process)


def _numpy() -> str | None:
    """The directory of numpy, which the tests of MBPP+ import."""
    spec = importlib.util.find_spec('numpy')
    return None if spec is None or spec.origin is None else os.path.dirname(spec.origin)


def _launch(role: str, settings: dict[str, Any], **streams: Any) -> 'subprocess.Popen[bytes]':
    """Starts a fresh interpreter as `worker` or `judge`, in a session of its own."""
    root = str(pathlib.Path(__file__).parents[2])
    numpy = _numpy()
    installation = [f'{sys.base_prefix}/lib', f'{sys.base_prefix}/lib64']
    libraries = [] if numpy is None else [numpy, f'{numpy}.libs']
    settings = settings | {
        'root': root,
        'numpy': numpy,
        'readable': [*installation, *libraries, *_SYSTEM_LIBRARIES],
    }
    start = (
        f'import sys; sys.path.insert(0, {root!r}); '
        f'from lorajax.sandbox import {role}; {role}.main({settings!r})'
    )
    # As -I -S, but -I would ignore the hash seed, and verdicts should not depend on it.
    return subprocess.Popen(
        [sys.executable, '-P', '-s', '-S', '-c', start],
        env={'PYTHONHASHSEED': '0', 'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1'},
        cwd='/',
        start_new_session=True,
        **streams,
    )


def _end(process: 'subprocess.Popen[bytes]') -> None:
    """Kills a process group and collects its leader."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def protections() -> dict[str, Any]:
    """Returns what confines a program on this machine, for the report; starts one process.

    Raises:
      InputError: if programs cannot be confined here.
    """
    judge = _Judge()
    judge.close()
    return judge.protections


def run_programs(
    programs: Sequence[Program],
    timeout_s: float = 10.0,
    memory_mb: int = 4096,
    workers: int | None = None,
) -> list[Verdict]:
    """Runs each program against its tests.

    Args:
      programs: what to run.
      timeout_s: wall-clock limit for the program's first run and for each of its tests, seconds.
      memory_mb: limit on the program's address space, MiB.
      workers: programs run at a time; None for one per CPU core.

    Returns:
      One verdict per program.

    Raises:
      InputError: if programs cannot be confined on this machine.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    idle: queue.SimpleQueue[_Judge] = queue.SimpleQueue()

    def run(program: Program) -> Verdict:
        if not program.code.strip():
            return Verdict({name: 'empty: no program' for name, _ in program.tests})
        try:
            judge = idle.get_nowait()
        except queue.Empty:
            judge = _Judge()
        cpu_s = math.ceil(timeout_s * (len(program.tests) + 1)) + 1
        worker = _launch(
            'worker',
            {'memory_mb': memory_mb, 'cpu_s': cpu_s},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            return Verdict(judge.judge(program, worker, timeout_s))
        finally:
            _end(worker)
            if judge.is_usable:
                idle.put(judge)
            else:
                judge.close()

    pool = concurrent.futures.ThreadPoolExecutor(max(1, min(workers, len(programs))))
    try:
        return list(pool.map(run, programs))
    finally:
        pool.shutdown(cancel_futures=True)
        while not idle.empty():
            idle.get().close()
