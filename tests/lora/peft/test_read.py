"""What cannot be expressed or is damaged ends in one line that says so, and nothing else."""

import numpy as np
import pytest

from lorajax import lora

pytest.importorskip('torch')
pytest.importorskip('peft')
from tests.lora import refusals


def test_the_valid_adapter_of_the_malformed_ones_is_read(tmp_path):
    for with_sums in (False, True):
        refusals.write_valid(tmp_path / 'adapter', with_sums=with_sums)
        assert refusals.read(tmp_path / 'adapter') == 'accepted'


@pytest.mark.parametrize('name', refusals.CASES)
def test_the_line_for(tmp_path, name):
    make, line = refusals.CASES[name]
    make(tmp_path / 'adapter')
    assert refusals.read(tmp_path / 'adapter') == line
    assert len(line) < 400


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_any_flipped_bit_is_noticed_by_the_sums(tmp_path, dtype):
    refusals.write_valid(tmp_path, dtype, with_sums=True)
    for name in (refusals.WEIGHTS, refusals.CONFIG):
        path = tmp_path / name
        whole = path.read_bytes()
        for position in range(0, len(whole), 997):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            assert f'{name}: corrupt: its SHA-256 is' in refusals.read(tmp_path)
        path.write_bytes(whole)


def test_layers_and_ranks_that_are_not_there_are_zeros(tmp_path):
    """Mixed ranks fill up to the highest; layers without factors change nothing."""
    rng = np.random.default_rng(0)
    config = lora.LoraConfig(
        rank=2, alpha=4, targets=('q_proj',), layers=(0, 2), rank_pattern={r'layers\.2\..*': 3}
    )
    a, b = rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 3, 5))
    a[0, :, 2], b[0, 2], b[1], b[3] = 0, 0, 0, 0
    tree = {'layers': {'q_proj': {'a': a.astype(np.float32), 'b': b.astype(np.float32)}}}
    lora.save_peft(tmp_path / 'x', config, tree)
    read, found = lora.load_peft(tmp_path / 'x', num_layers=4)
    assert read.layers == (0, 2)
    entry = found['layers']['q_proj']
    assert entry['a'].shape == (4, 6, 3) and entry['b'].shape == (4, 3, 5)
    assert not entry['a'][[1, 3]].any() and not entry['b'][[1, 3]].any()
    assert not entry['a'][0, :, 2].any() and not entry['b'][0, 2].any()
    np.testing.assert_array_equal(entry['a'][[0, 2]], tree['layers']['q_proj']['a'][[0, 2]])
    shallow = lora.load_peft(tmp_path / 'x')[1]['layers']['q_proj']
    np.testing.assert_array_equal(shallow['b'], entry['b'][:3])
