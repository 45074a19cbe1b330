"""Locks: alone or shared, at once or after the holder, also where there are none."""

import errno
import fcntl
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
