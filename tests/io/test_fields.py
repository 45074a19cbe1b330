"""Fields of JSON objects are what they should be, or the line says what they are instead."""

import pytest

from lorajax.errors import InputError
from lorajax.io import fields

VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    1.0,
    0.5,
    -2.5,
    10**299,
    '',
    'a',
    [],
    [1],
    {},
    {'a': 1},
]
KINDS = [
    (fields.BOOLEAN, [True, False]),
    (fields.TEXT, ['', 'a']),
    (fields.INTEGER, [0, 1, -1, 2**31, 10**299]),
    (fields.COUNT, [1]),
    (fields.INDEX, [0, 1]),
    (fields.NUMBER, [0, 1, -1, 2**31, 1.0, 0.5, -2.5, 10**299]),
    (fields.POSITIVE, [1, 2**31, 1.0, 0.5, 10**299]),
    (fields.FRACTION, [0, 1, 1.0, 0.5]),
    (fields.OBJECT, [{}, {'a': 1}]),
    (fields.list_of(fields.COUNT), [[], [1]]),
    (fields.list_of(fields.TEXT), [[]]),
    (fields.object_of(fields.COUNT), [{}, {'a': 1}]),
    (fields.object_of(fields.TEXT), [{}]),
    (fields.one_of('a', 1), ['a', 1]),
    (fields.either(fields.TEXT, fields.BOOLEAN), ['', 'a', True, False]),
]  # fmt: skip


@pytest.mark.parametrize(('kind', 'fitting'), KINDS, ids=[kind.words for kind, _ in KINDS])
def test_a_kind_takes_its_values_and_no_others(kind, fitting):
    # By representation, since 1 == True == 1.0.
    taken = [value for value in VALUES if kind.fits(value)]
    assert list(map(repr, taken)) == sorted(map(repr, fitting), key=list(map(repr, VALUES)).index)
    for value in VALUES:
        if value in fitting and any(repr(value) == repr(known) for known in fitting):
            assert fields.require('file', {'x': value}, 'x', kind) is value
        else:
            with pytest.raises(InputError) as caught:
                fields.require('file', {'x': value}, 'x', kind)
            line = f'file: x is {fields.show(value)}, expected {kind.words}'
            assert str(caught.value) == line


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_no_number_is_not_finite(value):
    assert not any(kind.fits(value) for kind in (fields.NUMBER, fields.POSITIVE, fields.FRACTION))


def test_absent_and_null():
    with pytest.raises(InputError, match=r'^file: lacks x, expected a text$'):
        fields.require('file', {}, 'x', fields.TEXT)
    with pytest.raises(InputError, match=r'^file: x is null, expected a text$'):
        fields.require('file', {'x': None}, 'x', fields.TEXT)
    for content in ({}, {'x': None}):
        assert fields.require('file', content, 'x', fields.TEXT, default='y') == 'y'
        assert fields.require('file', content, 'x', fields.TEXT, default=None) is None


def test_long_values_are_cut_and_line_breaks_escaped():
    for value in ('a\nb' * 1000, list(range(1000)), {'k' * 500: 1}, 10**299):
        assert len(fields.show(value)) <= 60 and '\n' not in fields.show(value)
    assert [fields.show(value) for value in (None, True, False, 'a', 1.5)] == [
        'null', 'true', 'false', "'a'", '1.5',
    ]  # fmt: skip


@pytest.mark.parametrize('value', [None, [], 'a', 1])
def test_a_file_that_holds_no_object(value):
    assert fields.require_object('file', {'a': 1}) == {'a': 1}
    with pytest.raises(InputError, match=r'^file: holds .*, expected an object$'):
        fields.require_object('file', value)
