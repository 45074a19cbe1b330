"""Flagfiles are found by path and by name, and read with those that they name."""

import pathlib

import pytest

from lorajax.commands import flagfiles
from lorajax.errors import ArgumentError

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / 'launch'


@pytest.mark.parametrize('name', ['toy', 'toy.flags', 'launch/toy.flags'])
def test_a_shipped_file_is_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert flagfiles.find(name) == LAUNCH / 'toy.flags'


def test_a_file_at_the_path_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'toy').write_text('\ufeff--seed=3\r\n\n# words\n// words\n  --top_k=2  \n')
    assert flagfiles.lines('toy') == ['--seed=3', '--top_k=2']


def test_the_installed_package_has_them_inside(tmp_path, monkeypatch):
    (tmp_path / 'mine.flags').write_text('--seed=1\n')
    monkeypatch.setattr(flagfiles, '_PLACES', (tmp_path, tmp_path / 'absent'))
    assert flagfiles.lines('mine') == ['--seed=1']


def test_files_within_files_stand_in_their_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = flagfiles.lines('gpu_80gb')
    inner = flagfiles.lines('round4')
    assert len(found) > len(inner) and found[: len(inner)] == inner


@pytest.mark.parametrize(('content', 'problem'), [
    (b'\xff\xfe', 'is no text, expected one flag a line'),
    (b'--flagfile=own', 'names itself, by way of own'),
    (b'--flagfile=absent', 'no such file'),
    (b'--seed=1 --top_k=2', "'--seed=1 --top_k=2': expected one whole flag a line"),
    (b'--seed=1\\\n--top_k=2', 'expected one whole flag a line'),
])  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path, monkeypatch, content, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'own').write_bytes(content)
    with pytest.raises(ArgumentError, match=problem):
        flagfiles.lines('own')


def test_a_name_that_is_nearly_one_is_suggested():
    with pytest.raises(ArgumentError, match=r'no such file.*toy'):
        flagfiles.lines('toyy')
