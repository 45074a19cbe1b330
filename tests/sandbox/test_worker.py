"""The process of the program, spoken to without a judge."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from lorajax.sandbox import protocol, runner


@contextlib.contextmanager
def worker() -> Iterator:
    """Starts one; yields a function that asks it and returns its reply."""
    process = runner._launch(
        'worker',
        {'memory_mb': 1024, 'cpu_s': 20},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )

    def ask(*message):
        protocol.send(process.stdin.fileno(), message)
        return protocol.receive(process.stdout.fileno())

    try:
        assert protocol.receive(process.stdout.fileno()) == 'ready'
        yield ask
    finally:
        runner._end(process)


def test_it_runs_calls_and_keeps_objects():
    with worker() as ask:
        code = 'class P:\n    x = [1, 2]\ndef f(a, b=0):\n    return a + b\np = P()'
        names = dict(ask('run', code.replace('\\\n', '\n'))['value']['dict'])
        assert names['f']['handle'] == {'id': names['f']['handle']['id'], 'true': True,
                                        'type': 'function'}  # fmt: skip
        call = ask('call', names['f'], {'tuple': [2]}, {'dict': [['b', 3]]})
        assert call == {'value': 5}
        assert ask('get', names['p'], 'x') == {'value': [1, 2]}
        assert ask('set', names['p'], 'x', [5]) == {'value': None}
        assert ask('get', names['p'], 'x') == {'value': [5]}
        assert ask('iterate', [1, 2]) == {'value': [1, 2]} and ask('length', [1]) == {'value': 1}
        assert ask('item', [7, 8], 1) == {'value': 8}


def test_errors_are_replies_and_it_goes_on():
    with worker() as ask:
        assert ask('run', 'x = (')['error'] == 'SyntaxError'
        assert ask('run', 'raise SystemExit(0)')['error'] == 'SystemExit'
        assert ask('run', 'raise ValueError(10**5000)') == {
            'error': 'ValueError', 'text': '(its text cannot be made: ValueError)',
        }  # fmt: skip
        assert ask('run', "raise KeyError('\\ud800')")['text'] == "'\\ud800'"
        assert ask('no such operation', 1)['error'] == 'KeyError'
        assert ask('call', {'set': [[1]]})['error'] == 'ProtocolError'
        assert ask('item', [7], 5)['error'] == 'IndexError'


def test_a_program_that_leaves_ends_the_pipe():
    with worker() as ask, pytest.raises(EOFError):
        ask('run', 'import os; os._exit(0)')


def test_it_sees_no_package_and_no_path_of_ours():
    with worker() as ask:
        code = 'import sys\nseen = [m for m in sys.modules if m.startswith("numpy") or m == "jax"]'
        names = dict(ask('run', code.replace('\\\n', '\n'))['value']['dict'])
        assert names['seen'] == []
        root = os.path.dirname(os.path.dirname(os.path.dirname(runner.__file__)))
        path = dict(ask('run', 'import sys; path = list(sys.path)')['value']['dict'])['path']
        assert root not in path
