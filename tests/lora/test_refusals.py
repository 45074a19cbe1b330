"""What cannot be expressed or is damaged ends in one line that says so, and nothing else."""

import dataclasses
import json

import pytest

from lorajax.lora.peft import schema

pytest.importorskip('torch')
peft = pytest.importorskip('peft')
from tests.lora import refusals  # noqa: E402


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


def test_every_field_of_peft_is_known_and_others_are_named(tmp_path, caplog):
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert fields == schema._KNOWN | schema._REFUSED.keys()
    refusals.write_valid(tmp_path)
    path = tmp_path / refusals.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), 'use_new': True, 'off': False}))
    with caplog.at_level('WARNING', logger='absl'):
        assert refusals.read(tmp_path) == 'accepted'
    assert f'{path}: unknown field use_new is ignored' in caplog.text
