"""Whatever stands at a path, reading it ends, with a value or with one line."""

import os

import pytest

from benchmarks import fuzz
from lorajax import io
from lorajax.errors import InputError


def refused(path, problem):
    """Checks that every reader refuses a path in the same line."""
    for read in (io.read_json, io.read_jsonl, io.file_sum, lambda path: io.read_bytes(path, 99)):
        with pytest.raises(InputError) as caught:
            read(path)
        line = str(caught.value)
        assert problem in line and '\n' not in line and len(line) < 500, line


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    (tmp_path / 'file').write_text('{}')
    refused(tmp_path / 'absent', f'{tmp_path / "absent"}: no such file')
    refused(tmp_path, f'{tmp_path}: is a directory, expected a file')
    refused(tmp_path / 'pipe', f'{tmp_path / "pipe"}: is a pipe or a device, expected a file')
    refused('/dev/zero', '/dev/zero: is a pipe or a device, expected a file')
    refused(tmp_path / 'loop', f'{tmp_path / "loop"}: too many levels of symbolic links')
    refused(tmp_path / 'file' / 'x', f'{tmp_path / "file" / "x"}: not a directory')
    refused(tmp_path / ('n' * 300), 'nnn...: file name too long')
    # Short, as a line cuts a long path, and that of `tmp_path` is as long as it likes.
    refused('a\0b', 'a\\x00b: is no name of a file')
    refused('\ud800', '\\ud800: is no name of a file')


@pytest.mark.skipif(os.geteuid() == 0, reason='root reads everything')
def test_a_file_without_permission_is_refused(tmp_path):
    (tmp_path / 'secret').write_text('{}')
    (tmp_path / 'secret').chmod(0)
    refused(tmp_path / 'secret', f'{tmp_path / "secret"}: permission denied')


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / 'x'
    path.write_bytes(b'abc')
    assert io.read_bytes(path, 3) == b'abc'
    with pytest.raises(InputError, match='has 3 bytes, expected at most 2'):
        io.read_bytes(path, 2)
    os.truncate(path, 1 << 40)  # sparse: no byte of it is on the disk
    with pytest.raises(InputError, match=f'has {1 << 40} bytes'):
        io.read_json(path)


def test_long_and_unprintable_texts_are_shortened():
    assert io.shorten('a' * 80) == 'a' * 80
    assert io.shorten('a' * 81) == 'a' * 77 + '...'
    assert io.shorten('a\nb\ud800\x1b[2J ü') == 'a\\nb\\ud800\\x1b[2J ü'


@pytest.mark.parametrize('name', fuzz.KINDS)
def test_damaged_files_of_every_kind_end_in_a_value_or_in_one_line(name):
    """The first damages of a long search, see benchmarks/fuzz.py."""
    tried, refused, failures = fuzz.search(fuzz.KINDS[name], seed=0, count=25)
    assert not failures, failures[0]
    assert tried == 25 and refused > 5  # damage that nobody notices would search nothing
