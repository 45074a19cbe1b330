"""Files appear whole or not at all, whatever interrupts the writing."""

import errno
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import pytest

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import atomic

ROOT = pathlib.Path(__file__).resolve().parents[2]


def contents(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob('*')
        if path.is_file()
    }


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'deep' / 'file.txt'
    io.write_text(path, 'old')
    with pytest.raises(RuntimeError), io.atomic_file(path) as temporary:
        temporary.write_text('half')
        raise RuntimeError
    assert path.read_text() == 'old'
    assert [p.name for p in path.parent.iterdir()] == ['file.txt']


@pytest.mark.parametrize('can_exchange', [True, False])
def test_a_directory_is_replaced_as_a_whole(tmp_path, can_exchange, monkeypatch):
    if not can_exchange:
        monkeypatch.setattr(atomic, '_renameat2', lambda: None)
    path = tmp_path / 'directory'
    for content in ('old', 'new'):
        with io.atomic_directory(path) as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in path.iterdir()] == ['new']
    with pytest.raises(RuntimeError), io.atomic_directory(path) as temporary:
        (temporary / 'half').write_text('')
        raise RuntimeError
    assert [p.name for p in path.iterdir()] == ['new']
    assert [p.name for p in tmp_path.iterdir()] == ['directory']


def test_what_killed_runs_leave_is_removed(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / '.partial-x-12345678').write_text('')
    (tmp_path / '.partial-d-12345678').mkdir()
    (tmp_path / 'kept').write_text('')
    io.remove_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['a', 'kept']


# Replaces a directory and ends as SIGKILL does, at the call given by name and number.
KILLED = """
import os, shutil, sys
from lorajax import io
from lorajax.io import atomic

path, function, count, can_exchange = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
calls = 0

def killed(*arguments, **options):
    global calls
    calls += 1
    if calls == count:
        os.kill(os.getpid(), 9)
    return original(*arguments, **options)

module = {'rename': os, 'fsync': os, 'rmtree': shutil, 'exchange': atomic}[function]
original = getattr(module, function)
setattr(module, function, killed)
if can_exchange == 'False':
    atomic._renameat2 = lambda: None
with io.atomic_directory(path) as temporary:
    for name in 'ab':
        (temporary / name).write_text('new')
"""


@pytest.mark.parametrize('can_exchange', [True, False])
@pytest.mark.parametrize('recovery', ['remove_partial', 'the next write'])
def test_a_kill_at_any_moment_leaves_one_whole_directory(tmp_path, can_exchange, recovery):
    moments = [('fsync', 1), ('fsync', 3), ('fsync', 4), ('rmtree', 1)]
    moments += [('exchange', 1)] if can_exchange else [('rename', 1), ('rename', 2)]
    for function, count in moments:
        root = tmp_path / f'{function}-{count}'
        path = root / 'directory'
        for old in 'abc':
            io.write_text(path / old, 'old')
        command = [sys.executable, '-c', KILLED, path, function, str(count), str(can_exchange)]
        assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
        if can_exchange:  # without any recovery
            assert path.is_dir()
        if recovery == 'remove_partial':
            io.remove_partial(root)
        else:
            with pytest.raises(KeyboardInterrupt), io.atomic_directory(path):
                raise KeyboardInterrupt
            io.remove_partial(root)
        assert [entry.name for entry in root.iterdir()] == ['directory']
        found = contents(path)
        assert found in ({'a': 'new', 'b': 'new'}, dict.fromkeys('abc', 'old')), (function, count)


def test_trading_names_is_one_step_or_nothing(tmp_path):
    first, second = tmp_path / 'first', tmp_path / 'second'
    io.write_text(first / 'x', '1')
    io.write_text(second / 'x', '2')
    if not atomic.exchange(first, second):
        pytest.skip('this file system does not exchange')
    assert contents(tmp_path) == {'first/x': '2', 'second/x': '1'}
    shutil.rmtree(second)
    with pytest.raises(FileNotFoundError):
        atomic.exchange(first, second)
    assert contents(tmp_path) == {'first/x': '2'}


@pytest.fixture
def disk_full():
    """Files of this process cannot grow beyond 64 KiB: writes fail as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_and_says_so_in_one_line(tmp_path, disk_full):
    path = tmp_path / 'rows.jsonl'
    io.write_text(path, 'old')
    with pytest.raises(InputError) as caught:
        io.write_text(path, 'x' * 100_000)
    assert str(caught.value) == f'{path}: cannot be written: file too large'
    directory = tmp_path / 'directory'
    io.write_text(directory / 'old', 'old')
    with pytest.raises(InputError) as caught, io.atomic_directory(directory) as temporary:
        (temporary / 'new').write_bytes(bytes(100_000))
    assert str(caught.value) == f'{directory}: cannot be written: file too large'
    for write in (io.atomic_file, io.atomic_directory):  # nor are new parents left
        with pytest.raises(InputError), write(tmp_path / 'new' / 'deep' / 'x') as temporary:
            (temporary / 'x' if temporary.is_dir() else temporary).write_bytes(bytes(100_000))
    assert contents(directory) == {'old': 'old'}
    assert sorted(p.name for p in tmp_path.iterdir()) == ['directory', 'rows.jsonl']


FULL = """
mount -t tmpfs -o size=256k none "$1" || exit 99
exec "$2" - "$1" <<'END'
import pathlib, shutil, sys
from lorajax import io
from lorajax.errors import InputError
root = pathlib.Path(sys.argv[1])
io.write_text(root / 'kept' / 'x', 'old')
def copied(target):
    shutil.copytree('lorajax', target / 'copy')
for write in (lambda target: (target / 'x').write_bytes(bytes(1 << 20)), copied):
    try:
        with io.atomic_directory(root / 'kept') as temporary:
            write(temporary)
    except InputError as error:
        print(error)
try:
    io.write_text(root / 'kept' / 'x', 'y' * (1 << 20))
except InputError as error:
    print(error)
print(sorted(str(p.relative_to(root)) for p in root.rglob('*')), (root / 'kept/x').read_text())
END
"""


def test_a_disk_that_is_really_full(tmp_path):
    command = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', FULL, 'sh']
    if shutil.which('unshare') is None:
        pytest.skip('no unshare on this machine')
    done = subprocess.run(
        [*command, tmp_path, sys.executable], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode in (1, 99) and 'Traceback' not in done.stderr:
        pytest.skip('no file system of our own in a user namespace')
    kept = tmp_path / 'kept'
    full = 'cannot be written: no space left on device'
    lines = done.stdout.splitlines()
    assert lines[0] == f'{kept}: {full}' and lines[2] == f'{kept / "x"}: {full}', done.stderr
    # copytree reports what it could not copy, whose reason is in the system's words.
    assert lines[1].startswith(f'{kept}: cannot be written: ') and 'No space left' in lines[1]
    assert lines[3:] == ["['kept', 'kept/x'] old"]


def test_refusals_name_the_destination(tmp_path):
    io.write_text(tmp_path / 'file', 'old')
    for write, problem in [
        (lambda: io.write_text(tmp_path / 'file' / 'x', ''), 'file exists'),
        (lambda: io.write_text(tmp_path / ('n' * 300), ''), 'file name too long'),
        (lambda: io.atomic_directory(tmp_path / 'file').__enter__(), 'is a file'),
    ]:
        with pytest.raises(InputError, match=f'{tmp_path}.*{problem}') as caught:
            write()
        assert '.partial-' not in str(caught.value)
    with pytest.raises(InputError, match='is a directory'):
        io.write_text(tmp_path, '')
    assert contents(tmp_path) == {'file': 'old'}


def test_errors_about_other_files_are_left_alone(tmp_path):
    with pytest.raises(FileNotFoundError), io.atomic_directory(tmp_path / 'new'):
        pathlib.Path('/nowhere/at/all').read_text()
    with pytest.raises(ConnectionResetError), io.atomic_file(tmp_path / 'file'):
        raise ConnectionResetError(errno.ECONNRESET, 'reset by peer')
    assert not list(tmp_path.iterdir())


def test_a_link_to_a_directory_stays_a_link(tmp_path):
    io.write_text(tmp_path / 'real' / 'old', 'old')
    (tmp_path / 'link').symlink_to('real')
    with io.atomic_directory(tmp_path / 'link') as temporary:
        (temporary / 'new').write_text('new')
    assert (tmp_path / 'link').is_symlink()
    assert contents(tmp_path / 'real') == {'new': 'new'}


def test_text_that_no_utf8_can_hold_is_stored(tmp_path):
    io.write_text(tmp_path / 'x', 'a\ud800b \ud83d\ude00')
    assert (tmp_path / 'x').read_text(encoding='utf-8') == 'a\ufffdb \U0001f600'
