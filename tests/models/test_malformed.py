"""Damaged checkpoints end in one line that says what is wrong."""

import numpy as np
import pytest

from tests.models import malformed


@pytest.mark.parametrize('name', malformed.CASES)
def test_the_line_for(tmp_path, name):
    make, line = malformed.CASES[name]
    make(tmp_path / 'model')
    assert malformed.read(tmp_path / 'model') == line


@pytest.mark.parametrize('is_sharded', [False, True])
def test_the_checkpoint_that_the_cases_damage_is_read(tmp_path, is_sharded):
    if is_sharded:
        assert len(malformed.write_shards(tmp_path)) > 2
    else:
        malformed.write_valid(tmp_path, dtype=np.float32)
    assert malformed.read(tmp_path) == 'accepted'
