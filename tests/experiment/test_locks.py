"""Locks: alone or shared, at once or after the holder, also where there are none."""

import errno
import fcntl
import pathlib
import threading

import pytest

from lorajax.experiment.locks import locked


@pytest.mark.parametrize(
    ('first', 'second', 'is_held'),
    [(False, False, False), (True, False, False), (False, True, False), (True, True, True)],
)
def test_who_is_let_in_beside_a_holder(tmp_path, first, second, is_held):
    path = tmp_path / 'new' / 'lock'
    with locked(path, is_shared=first) as held:
        assert held
        with locked(path, is_shared=second) as other:
            assert other is is_held
    with locked(path) as held:
        assert held


def test_the_patient_wait_for_the_holder_also_if_it_removes_the_file(tmp_path):
    path, entered = tmp_path / 'lock', []

    def enter():
        with locked(path, is_patient=True) as held:
            entered.append(held and path.exists())

    waiting = threading.Thread(target=enter)
    with locked(path):
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive() and not entered
        path.unlink()
    waiting.join(10)
    assert entered == [True]


def test_without_locks_all_are_let_in_and_a_line_says_so(tmp_path, monkeypatch, caplog):
    def refuse(descriptor, operation):
        raise OSError(number, 'refused')

    monkeypatch.setattr(fcntl, 'flock', refuse)
    number = errno.ENOLCK
    with caplog.at_level('WARNING', logger='absl'), locked(tmp_path / 'lock') as held:
        assert held and 'this file system has no locks' in caplog.messages[0]
    number = errno.EIO
    with pytest.raises(OSError, match='refused'), locked(tmp_path / 'lock'):
        raise AssertionError('entered')


@pytest.mark.parametrize('error', [FileExistsError, FileNotFoundError])
def test_a_directory_that_its_holder_removes_meanwhile_is_made_again(tmp_path, monkeypatch, error):
    """As `mkdir` says it that finds a directory, looks again, and finds none."""
    make, calls = pathlib.Path.mkdir, []

    def mkdir(path, **options):
        calls.append(path)
        if len(calls) < 3:
            raise error(path)
        make(path, **options)

    monkeypatch.setattr(pathlib.Path, 'mkdir', mkdir)
    with locked(tmp_path / 'run' / 'lock') as held:
        assert held and len(calls) == 3


def test_a_link_to_nowhere_is_no_race(tmp_path):
    (tmp_path / 'run').symlink_to(tmp_path / 'nowhere')
    with pytest.raises(FileExistsError), locked(tmp_path / 'run' / 'lock'):
        raise AssertionError('entered')
