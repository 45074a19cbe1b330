"""The state of a training: of one training alone, and gone when it is done."""

import numpy as np
import pytest

from lorajax import io
from lorajax.commands.training_state import TrainingState, hash_rows
from lorajax.errors import InputError
from lorajax.tasks.chat import Encoded


def test_a_state_is_of_one_training(tmp_path, caplog):
    state = TrainingState(tmp_path / 'out')
    assert state.is_new and state.directory == tmp_path / 'out.state'
    state.begin({'rows': 'abc', 'x: targets': ('q_proj',)})
    again = TrainingState(tmp_path / 'out')
    assert not again.is_new
    again.begin({'rows': 'abc', 'x: targets': ('q_proj',)})
    with pytest.raises(InputError, match=r'out\.state: is of a training with other rows'):
        again.begin({'rows': 'abd', 'x: targets': ('q_proj',)})
    state.metrics.write_text('{}\n')
    (state.directory / 'wandb').mkdir()
    with caplog.at_level('INFO', logger='absl'):
        state.end()
    assert f'for wandb: {tmp_path}/out/wandb' in caplog.text and (tmp_path / 'out/wandb').is_dir()
    assert not state.directory.exists()
    assert io.read_jsonl(tmp_path / 'out/metrics.jsonl') == [{}]
    assert TrainingState(tmp_path / 'out').is_new


def test_rows_differ_by_token_and_by_border():
    def row(prompt, answer):
        return Encoded(np.array(prompt, np.int32), np.array(answer, np.int32))

    hashes = {hash_rows(rows) for rows in (
        [row([1, 2], [3])], [row([1], [2, 3])], [row([1, 2], [4])], [row([1, 2], [3])] * 2,
    )}  # fmt: skip
    assert len(hashes) == 4 and hash_rows([row([1, 2], [3])]) in hashes
