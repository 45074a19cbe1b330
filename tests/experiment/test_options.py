"""A field's declaration is its parser, its check and its documentation."""

import dataclasses

import pytest

from lorajax.errors import ArgumentError
from lorajax.experiment import options
from lorajax.experiment.options import option, options_of


@options.documented
@dataclasses.dataclass(frozen=True)
class Settings:
    """Some settings."""

    count: int = option(3, 'how many', minimum=1, maximum=9)
    rate: float = option(0.5, 'how fast', minimum=0.0)
    name: str = option('', 'what it is called', required=True)
    note: str | None = option(None, 'what else')
    mode: str = option('on', 'whether', choices=('on', 'off'))
    is_loud: bool = option(False, 'how loud')
    names: tuple[str, ...] = option(('a',), 'several')
    parts: tuple[str, ...] = option(('x', 'y'), 'some', choices=('x', 'y', 'z'))
    grid: tuple[int, int] = option((1, -1), 'rows and columns', minimum=-1)


@pytest.mark.parametrize(
    ('name', 'text', 'value'),
    [
        ('count', '9', 9),
        ('rate', '1e-4', 1e-4),
        ('name', 'a,b', 'a,b'),
        ('note', '', ''),
        ('mode', 'off', 'off'),
        ('is_loud', True, True),
        ('names', 'b, c,,', ('b', 'c')),
        ('parts', 'z,x,z', ('x', 'z')),
        ('grid', '-1,2', (-1, 2)),
    ],
)
def test_text_becomes_a_value(name, text, value):
    assert options_of(Settings)[name].parse(text) == value


@pytest.mark.parametrize(
    ('name', 'text', 'line'),
    [
        ('count', '0', 'count 0: expected an integer from 1 to 9'),
        ('count', '1.5', 'count 1.5: expected an integer from 1 to 9'),
        ('count', '9' * 5000, f'count {"9" * 200}...: expected an integer from 1 to 9'),
        ('rate', '-1', 'rate -1.0: expected a finite number of at least 0'),
        ('rate', 'nan', 'rate nan: expected a finite number of at least 0'),
        ('rate', '1e999', 'rate inf: expected a finite number of at least 0'),
        ('rate', 'fast', 'rate fast: expected a finite number of at least 0'),
        ('name', '', 'name: is missing, expected what it is called'),
        ('mode', 'of', 'mode of: expected one of on, off; did you mean off?'),
        ('names', ',', 'names: is empty, expected texts, separated by commas'),
        ('parts', 'x,w', 'parts w: expected some of x, y, z'),
        ('grid', '3000000000,1', 'grid 3000000000,1: is too large, expected at most 2147483647'),
        ('grid', '1', 'grid 1: expected 2 integers of at least -1, separated by commas'),
        ('grid', '1,b', 'grid 1,b: expected 2 integers of at least -1, separated by commas'),
        ('grid', '1,-2', 'grid 1,-2: expected 2 integers of at least -1, separated by commas'),
    ],
)
def test_what_is_no_value_is_refused_in_one_line(name, text, line):
    with pytest.raises(ArgumentError) as error:
        options_of(Settings)[name].parse(text)
    assert str(error.value) == line and error.value.argument == name


@pytest.mark.parametrize(
    'change', [{'count': True}, {'count': 2.0}, {'name': 3}, {'is_loud': 1}, {'names': 'ab'}]
)
def test_values_of_another_type_are_refused_too(change):
    options.check(Settings(name='n'))
    options.check(Settings(name='n', rate=1))  # a whole number is a number
    with pytest.raises(ArgumentError):
        options.check(dataclasses.replace(Settings(name='n'), **change))


def test_the_docstring_names_every_field_with_its_help():
    lines = Settings.__doc__.splitlines()
    assert lines[0] == 'Some settings.'
    for name, declared in options_of(Settings).items():
        assert f'  {name}: {declared.help}.' in lines


def test_a_value_is_shown_as_its_flag_is_written():
    assert options.show((1, -1)) == '1,-1' and options.show(True) == 'true'
    assert options.suggest('nams', ['names', 'mode']) == '; did you mean names?'
    assert options.suggest('zzz', ['names']) == ''
