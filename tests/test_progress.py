"""What stays on the screen of a long command."""

import pytest

from lorajax import progress


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


def test_lines_in_between_carry_the_latest_values(lines):
    with progress.Progress('mine', 9, initial=2, every_seconds=-1.0) as bar:
        bar.update(0, loss=0.5)
        bar.update()
    assert lines == ['mine: 2 of 9, loss 0.5', 'mine: 3 of 9, loss 0.5']


def test_work_without_values_or_end_leaves_no_line(lines):
    with progress.Progress('mine', 1) as bar:
        bar.update()
    with pytest.raises(KeyError), progress.Progress('mine', 2) as bar:
        bar.update(1, loss=1.0)
        raise KeyError
    assert lines == []
