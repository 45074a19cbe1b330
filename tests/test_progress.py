"""What stays on the screen of a long command."""

import pytest

from lorajax.training import metrics


@pytest.fixture
def lines(monkeypatch):
    """The lines that were logged, where there is no terminal."""
    found = []
    monkeypatch.setattr(metrics.logging, 'info', lambda text, *args: found.append(text % args))
    monkeypatch.setattr(metrics.sys, 'stderr', type('File', (), {'isatty': lambda self: False})())
    return found


def test_the_last_values_stay_when_the_work_is_done(lines):
    with metrics.Progress('mine', 3) as progress:
        for loss in (0.3, 0.2, 0.1):
            progress.update(0, loss=loss)
            progress.update()
    assert lines == ['mine: 3 of 3, loss 0.1']


def test_lines_in_between_carry_the_latest_values(lines):
    with metrics.Progress('mine', 9, initial=2, every_seconds=-1.0) as progress:
        progress.update(0, loss=0.5)
        progress.update()
    assert lines == ['mine: 2 of 9, loss 0.5', 'mine: 3 of 9, loss 0.5']


def test_work_without_values_or_end_leaves_no_line(lines):
    with metrics.Progress('mine', 1) as progress:
        progress.update()
    with pytest.raises(KeyError), metrics.Progress('mine', 2) as progress:
        progress.update(1, loss=1.0)
        raise KeyError
    assert lines == []
