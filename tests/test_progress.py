"""What stays on the screen of a long command."""

import signal

import pytest

from lorajax import progress
from lorajax.errors import Interrupted


@pytest.fixture
def lines(monkeypatch):
    """The lines that were logged, where there is no terminal."""
    texts = []
    monkeypatch.setattr(progress.logging, 'info', lambda text, *args: texts.append(text % args))
    monkeypatch.setattr(progress.sys, 'stderr', type('File', (), {'isatty': lambda self: False})())
    return texts


def test_the_last_values_stay_when_the_work_is_done(lines):
    with progress.Progress('mine', 3) as bar:
        for loss in (0.3, 0.2, 0.1):
            bar.update(0, loss=loss)
            bar.update()
    assert lines == ['mine: 3 of 3, loss 0.1']


def test_lines_in_between_carry_the_latest_values_and_the_time_left(lines, monkeypatch):
    """Neither what a resumed work did before nor the first step, which compiles, is in the rate."""
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    with progress.Progress('mine', 10, initial=2, every_seconds=-1.0) as bar:
        bar.update(0, loss=0.5)
        for now[0] in (1000.0, 1100.0):
            bar.update()
    assert lines == [
        'mine: 2 of 10, loss 0.5',
        'mine: 3 of 10, loss 0.5',
        'mine: 4 of 10, loss 0.5, 10 min left',
    ]
    assert [progress._show(s) for s in (0.4, 89, 91, 7300)] == ['0 s', '89 s', '2 min', '2 h 2 min']


def test_work_without_values_or_end_leaves_no_line(lines):
    with progress.Progress('mine', 1) as bar:
        bar.update()
    with pytest.raises(KeyError), progress.Progress('mine', 2) as bar:
        bar.update(1, loss=1.0)
        raise KeyError
    assert lines == []


@pytest.fixture
def requests(monkeypatch):
    """What asks for an end; forgotten afterwards."""
    monkeypatch.setattr(progress, '_requests', [])
    return progress._requests


def test_counted_work_ends_after_the_step_it_is_at(requests, lines):
    reason, steps = Interrupted(signal.SIGTERM), []
    with pytest.raises(Interrupted) as caught, progress.Progress('mine', 9) as bar:
        for step in range(9):
            if step == 3:
                progress.interrupt(reason)
                bar.update(0, loss=1.0)  # says something, but is no step
            steps.append((step, bar.is_interrupted))
            bar.update()
    assert caught.value is reason and steps == [(0, False), (1, False), (2, False), (3, True)]
    assert not progress._running


def test_other_work_ends_at_once_and_the_last_step_is_not_too_late(requests, lines):
    with pytest.raises(Interrupted):
        progress.interrupt(Interrupted(signal.SIGINT))
    requests.clear()
    with pytest.raises(Interrupted), progress.Progress('mine', 1) as bar:
        bar.update()
        progress.interrupt(Interrupted(signal.SIGINT))


def test_several_processes_end_where_they_meet(monkeypatch):
    asked = []
    monkeypatch.setattr(progress, '_meetings', [lambda number: asked.append(number) or number])
    monkeypatch.setattr(progress, '_requests', [])
    monkeypatch.setattr(progress, '_unshared', [])
    with pytest.raises(Interrupted, match='SIGTERM'), progress.Progress('work', 3) as work:
        progress.meet()
        progress.interrupt(Interrupted(signal.SIGTERM))
        work.update()  # the others have not heard of it
        progress.meet()
        assert work.is_interrupted
        work.update()
    assert asked == [0, signal.SIGTERM]
