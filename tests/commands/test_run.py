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
    assert len(COMMANDS['run'].settings) > 40
    assert list(COMMANDS['run'].own) == [
        'coordinator_address', 'num_processes', 'process_id', 'num_shards', 'shard_index'
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--shard_index=2'], r'shard_index 2: expected 0 to 0'),
        (['--num_shards=2', '--shard_index=2'], r'shard_index 2: expected 0 to 1'),
        (['--num_shards=0'], r'num_shards 0: expected an integer of at least 1'),
        (['--num_shards=2'], r'stages prepare,map,report: cannot be divided among shards'),
        (['--num_shards=2', '--stages=train'], r'run/config.json: .* run the stage prepare first'),
    ],
)
def test_shards_that_cannot_be_are_refused(flags, words, tmp_path):
    with pytest.raises(InputError, match=words):
        run('run', f'--workdir={tmp_path}/run', *flags)
    assert not (tmp_path / 'run').exists()
