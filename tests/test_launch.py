"""What a user reads when something is wrong: one line, a status, nothing half-written."""

import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

import lorajax
from lorajax import launch
from lorajax.errors import ArgumentError, InputError

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main(capsys, *arguments):
    """Runs the entry in this process; returns status and stderr."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        launch.main(arguments)
    except SystemExit as end:
        return end.code, capsys.readouterr().err
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0, capsys.readouterr().err


def raising(error):
    """A command that raises."""

    def run(arguments):
        raise error

    return run


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--lora_rnk=4', ['--lora_rnk: ', '--lora_rank']),
        ('--mesh=1,1', ['--mesh=1,1: expected data,fsdp,tensor']),
        ('--source_model=runs/nowhere', ['runs/nowhere', 'no such directory']),
    ],
)
def test_a_wrong_flag_ends_in_one_line(flag, words, tmp_path, capsys):
    status, stderr = main(capsys, flag, f'--workdir={tmp_path}/run')
    assert status == 2
    line = stderr.strip().splitlines()[-1]
    assert line.startswith('lorajax: ') and 'Traceback' not in stderr
    assert all(word in line for word in words), line
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('arguments', [[], ['help'], ['--help']])
def test_alone_it_prints_help(arguments, capsys):
    launch._run(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('usage: lorajax COMMAND')


def test_its_version_is_the_packages(capsys):
    launch._run(['--version'])
    assert capsys.readouterr().out == f'lorajax {lorajax.__version__}\n'


def test_help_beside_flags_alone_is_that_of_a_run(capsys):
    launch._run(['--flagfile=toy', '--help'])
    assert capsys.readouterr().out.startswith('usage: lorajax run')


@pytest.mark.parametrize('switch', ['--dry_run', '-dry_run', '--dry_run=true'])
def test_a_dry_run_does_nothing(switch, capsys, tmp_path):
    launch._run([switch, f'--workdir={tmp_path}/run', '--seed=3'])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '# lorajax run' and '--seed=3' in lines
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'arguments', [['help', 'train'], ['train', '--help'], ['train', '-h', '--helpshort']]
)
def test_help_of_a_command(arguments, capsys):
    launch._run(arguments)
    assert capsys.readouterr().out.startswith('usage: lorajax train --model=... --output=...')


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (ArgumentError('batch_size', 0, 'is too small'), '--batch_size=0: is too small'),
        (ArgumentError('prompt', None, 'is missing'), '--prompt: is missing'),
        (InputError('file:\n  bad'), 'file: bad'),
        (OSError(errno.ENOSPC, 'No space left on device', '/x/y'), '/x/y: No space left on device'),
        (OSError(errno.ENOSPC, 'No space left on device'), 'No space left on device'),
        (NotADirectoryError(errno.ENOTDIR, 'Not a directory', b'/x'), '/x: Not a directory'),
        (OSError(errno.ENAMETOOLONG, 'File name too long', 'x'), 'x: File name too long'),
        (OSError(errno.ELOOP, 'Too many levels', 'a', None, 'b'), 'b: Too many levels'),
        (shutil.Error([('a', 'b/a', '[Errno 28] full')]),
         'b/a: cannot be copied from a: [Errno 28] full'),
        (OSError('odd'), 'odd'),
        (RuntimeError('RESOURCE_EXHAUSTED: Out of\nmemory'),
         'out of memory (RESOURCE_EXHAUSTED: Out of memory); lorajax doctor with the same flags '
         'says what fits'),
        (MemoryError('x'), 'out of memory (x); lorajax doctor with the same flags says what fits'),
    ],
)  # fmt: skip
def test_every_error_of_the_outside_is_one_line(error, line, capsys, monkeypatch):
    monkeypatch.setattr(launch, '_run', raising(error))
    assert main(capsys) == (2, f'lorajax: {line}\n')


def test_a_defect_keeps_its_traceback(capsys, monkeypatch):
    monkeypatch.setattr(launch, '_run', raising(KeyError('ours')))
    with pytest.raises(KeyError):
        main(capsys)


def test_a_disk_that_is_full_is_named():
    """/dev/full takes no byte; the report goes there."""
    done = subprocess.run(
        f'{sys.executable} -m lorajax.launch help > /dev/full', shell=True, text=True, cwd=ROOT,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr == 'lorajax: No space left on device\n'


def test_a_reader_that_has_gone_is_no_error():
    done = subprocess.run(
        f'{sys.executable} -m lorajax.launch help | true', shell=True, text=True, cwd=ROOT,
        capture_output=True, check=False,
    )  # fmt: skip
    assert not done.stderr


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_in_one_line_and_the_same_command_goes_on(number, status, tmp_path):
    """Sent while adapters are trained; what is stored then is whole."""
    workdir = tmp_path / 'run'
    command = [
        sys.executable, '-m', 'lorajax.launch', '--anchors=toy_code_keep_1', f'--workdir={workdir}',
        '--heldouts=toy_code_keep_5', '--methods=mean', '--stages=prepare,train',
        '--num_epochs=400', '--checkpoint_every=5', '--train_per_task=32', '--batch_size=4',
    ]  # fmt: skip
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not any((workdir / 'checkpoints').glob('source/*/[0-9]*')):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(number)
    _, stderr = child.communicate(timeout=100)
    assert child.returncode == status
    lines = [line for line in stderr.splitlines() if line[:1] not in '0123456789']  # no progress
    name = signal.Signals(number).name
    assert lines == [f'lorajax: ended by {name}; the same command goes on from what is stored'], (
        stderr
    )
    assert not list(workdir.rglob('.partial-*'))
    assert any((workdir / 'checkpoints').glob('source/*/[0-9]*'))


LATE = """
import atexit, os, signal, sys
import lorajax
from lorajax import launch

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGTERM):
        kill(pid, number)

sys.late = Late()  # goes when the interpreter clears its modules, behind all callbacks
launch.main(['help', 'map'])
"""


def test_a_signal_behind_the_end_changes_no_status():
    done = subprocess.run(
        [sys.executable, '-c', LATE], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_it_runs_nothing():
    script = 'import sys, lorajax.launch\nassert "jax" not in sys.modules\n'
    subprocess.run([sys.executable, '-c', script], check=True, cwd=ROOT, env=os.environ)


def test_streams_that_are_closed_do_no_harm(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'stdout', None)
    monkeypatch.setattr(sys, 'stderr', None)
    monkeypatch.setattr(launch, '_run', raising(InputError('bad')))
    status, _ = main(capsys)
    assert status == 2 and sys.stderr is not None
