"""Checksums of parts combine to the checksum of the whole."""

import zlib

import numpy as np
import pytest

from lorajax.io import crc32


@pytest.mark.parametrize('sizes', [(0, 0), (0, 5), (5, 0), (1, 1), (3, 1 << 20), (100_001, 12_345)])
def test_two_parts(sizes):
    first, second = (np.random.default_rng(n).bytes(n) for n in sizes)
    found = crc32.combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert found == zlib.crc32(first + second)


def test_many_parts_and_a_swap_of_two():
    rng = np.random.default_rng(0)
    parts = [rng.bytes(int(n)) for n in rng.integers(0, 999, 50)]

    def total(parts):
        value = 0
        for part in parts:
            value = crc32.combine(value, zlib.crc32(part), len(part))
        return value

    assert total(parts) == zlib.crc32(b''.join(parts))
    parts[3], parts[4] = parts[4], parts[3]
    assert total(parts) == zlib.crc32(b''.join(parts))
    assert total(parts) != total(sorted(parts))
