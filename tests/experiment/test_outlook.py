"""A dry run of the experiment says what is missing, stage by stage."""

import dataclasses

import pytest

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import outlook
from lorajax.experiment.config import Experiment


def test_what_is_there_is_not_made_again(tmp_path):
    run = Experiment(workdir=str(tmp_path / 'run'), methods=('mean', 'distilled'),
                     diagnostics=False)  # fmt: skip
    lines = dict(line.split(': ', 1) for line in outlook.lines(run))
    assert list(lines) == list(run.stages)
    assert lines['prepare'].startswith('draw the rows of 16 anchors and 6 held-outs')
    assert lines['train'] == 'train adapters: 22 source, 22 target'
    assert lines['map'] == 'fit mean; train distilled' and run.heldouts[0] in lines['evaluate']
    assert not run.files.root.exists()
    io.write_json(run.files.config, run.to_json())
    for task in run.tasks[1:]:
        run.files.adapter('source', task).mkdir(parents=True)
    io.write_json(run.files.bases('mean'), {})
    lines = dict(line.split(': ', 1) for line in outlook.lines(run))
    assert lines['prepare'] == 'nothing, it is done'
    assert lines['train'] == 'train adapters: 1 source, 22 target'
    assert lines['map'] == 'predict held-outs by mean; train distilled'
    more = dataclasses.replace(run, methods=(*run.methods, 'stacked'), stages=('prepare', 'map'))
    first, second = outlook.lines(more)
    assert first.startswith('prepare: grow in methods; ') and 'fit stacked' in second
    with pytest.raises(ArgumentError, match='cannot be mixed'):
        outlook.lines(dataclasses.replace(run, seed=1))
    with pytest.raises(InputError, match='delta_ridge'):
        outlook.lines(dataclasses.replace(run, methods=('deltaridge',)))
