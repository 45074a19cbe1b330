"""Values between processes: faithful, and nothing else gets in."""

import decimal
import os

import numpy as np
import pytest

from lorajax.sandbox import protocol


def refuse(value):
    raise TypeError(f'{value!r} cannot be sent')


def round_trip(value):
    """Sends a value through a pipe."""
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing):
        protocol.send(writing, protocol.encode(value, refuse))
        return protocol.decode(protocol.receive(reading), refuse)


@pytest.mark.parametrize(
    'value',
    [
        None, True, 0, -(2**63), 2**63, 1.5, float('inf'), -0.0, 2j, '', 'ß\ud800',
        b'\x00\xff', [], (), set(), {}, frozenset({1}), [[(1,), {2: {3, 4}}]], {(1, 2): [None]},
        range(3, 0, -1), decimal.Decimal('0.1'), [True, 1, 1.0],
    ],
)  # fmt: skip
def test_plain_values_keep_value_and_type(value):
    found = round_trip(value)
    assert found == value and repr(found) == repr(value)


def test_long_integers():
    assert round_trip([7**6000, -(7**6000)]) == [7**6000, -(7**6000)]  # more than 4300 digits


def test_subclasses_become_plain():
    class Sly(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    found = round_trip([Sly(3), np.float64(2.5), np.int32(4), np.bool_(True), np.str_('x')])
    assert [type(item) for item in found] == [int, float, int, bool, str]
    assert found == [3, 2.5, 4, True, 'x']


def test_arrays():
    found = round_trip(np.arange(6).reshape(2, 3))
    assert isinstance(found, np.ndarray) and found.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    'data',
    [
        {}, {'a': 1, 'b': 2}, {'unknown': 1}, {'set': [[1]]}, {'dict': [1]}, {'int': 'z'},
        {'int': 5}, {'bytes': 'xyz'}, {'range': [1, 2, 0]}, {'complex': ['x']}, {'decimal': 'x'},
        {'tuple': 3},
    ],
)  # fmt: skip
def test_what_no_encoder_makes_is_refused(data):
    with pytest.raises(protocol.ProtocolError):
        protocol.decode(data, refuse)


@pytest.mark.parametrize(
    'data', [b'\xff\xff\xff\xff', b'\x00\x00\x00\x02{]', b'\x00\x00\x00\x01\xff']
)
def test_bytes_that_are_no_message(data):
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing):
        os.write(writing, data)
        with pytest.raises(protocol.ProtocolError):
            protocol.receive(reading)


def test_a_closed_pipe_is_the_end():
    reading, writing = os.pipe()
    os.write(writing, b'\x00')
    os.close(writing)
    with os.fdopen(reading), pytest.raises(EOFError):
        protocol.receive(reading)


def test_a_long_message_is_not_sent():
    with pytest.raises(protocol.ProtocolError, match='at most'):
        protocol.send(-1, 'x' * (protocol.MAX_BYTES + 1))
