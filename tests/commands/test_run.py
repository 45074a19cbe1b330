"""`run` does the stages that are asked for, and says where the report lies."""

import logging

import pytest

from lorajax.commands import COMMANDS
from lorajax.errors import InputError
from tests.commands.command_line import run


def test_one_stage_at_a_time(tmp_path, caplog):
    small = ['--anchors=toy_math_keep_5', '--heldouts=toy_math_keep_7', '--train_per_task=2',
             '--eval_per_task=2', '--methods=mean', f'--workdir={tmp_path}/run']  # fmt: skip
    run('run', *small, '--stages=prepare')
    assert (tmp_path / 'run' / 'config.json').is_file()
    with caplog.at_level(logging.INFO, logger='absl'):
        run('run', *small, '--stages=prepare')
    assert f'{tmp_path}/run: everything is done already' in caplog.messages
    with pytest.raises(InputError, match='run the stage train first'):
        run('run', *small, '--stages=map')


def test_it_reads_every_setting():
    assert len(COMMANDS['run'].settings) > 40 and not COMMANDS['run'].own
