"""Held-outs that join late; `tests/experiment/stages/test_prepare.py` has a run that one joins."""

import os
import pathlib

from lorajax.experiment import newcomers
from lorajax.experiment.config import Experiment


def test_only_fitted_mappings_can_lack_predictions(tmp_path):
    run = Experiment(workdir=str(tmp_path), methods=('mean', 'distilled'), diagnostics=False)
    assert newcomers.lacking(run) == {}
    run.files.mapping('mean').mkdir(parents=True)
    run.files.bases('mean').write_text('{}')
    first, *rest = run.heldouts
    run.files.predicted('mean', first).mkdir(parents=True)
    assert newcomers.lacking(run) == {'mean': rest}


def test_files_are_linked_or_copied(tmp_path, monkeypatch):
    one = tmp_path / 'one'
    one.write_text('x')
    newcomers._link(one, tmp_path / 'two')
    assert (tmp_path / 'two').samefile(one)

    def refuse(source, target):
        raise OSError('no links here')

    monkeypatch.setattr(os, 'link', refuse)
    newcomers._link(one, tmp_path / 'three')
    three = pathlib.Path(tmp_path / 'three')
    assert three.read_text() == 'x' and not three.samefile(one)
