"""What cannot be expressed or is damaged ends in one line that says so, and nothing else."""

import pytest

pytest.importorskip('torch')
pytest.importorskip('peft')
from tests.lora import refusals


def test_the_valid_adapter_of_the_malformed_ones_is_read(tmp_path):
    refusals.write_valid(tmp_path / 'adapter')
    assert refusals.read(tmp_path / 'adapter') == 'accepted'


@pytest.mark.parametrize('name', refusals.CASES)
def test_the_line_for(tmp_path, name):
    make, line = refusals.CASES[name]
    make(tmp_path / 'adapter')
    assert refusals.read(tmp_path / 'adapter') == line


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_any_flipped_bit_of_the_data_is_noticed(tmp_path, dtype):
    refusals.write_valid(tmp_path, dtype)
    path = tmp_path / refusals.WEIGHTS
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], 'little')
    for position in range(start, len(whole), 997):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        line = refusals.read(tmp_path)
        assert 'has CRC-32' in line or 'holds NaN or infinity' in line
