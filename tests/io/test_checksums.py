"""Sums in the format of sha256sum: what it wrote we check, what we wrote it checks."""

import os
import shutil
import subprocess

import pytest

from lorajax import io
from lorajax.errors import InputError

# SHA-256 of b'abc' (FIPS 180-2, appendix B.1).
ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
NAMES = ('a.bin', 'deep/b.txt', 'blank in it', 'back\\slash', 'line\nbreak', 'ümlaut')


@pytest.fixture
def directory(tmp_path):
    """Files of many names, and their sums."""
    for number, name in enumerate(NAMES):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([number]) * 1000 * number)
    io.write_sums(tmp_path)
    return tmp_path


def sha256sum(directory, *arguments):
    if shutil.which('sha256sum') is None:
        pytest.skip('no sha256sum on this machine')
    return subprocess.run(['sha256sum', *arguments], cwd=directory, capture_output=True, text=True)


def test_the_sum_is_sha_256(tmp_path):
    (tmp_path / 'x').write_bytes(b'abc')
    assert io.file_sum(tmp_path / 'x') == ABC
    io.write_sum(tmp_path / 'x')
    assert (tmp_path / 'x.sha256').read_text() == f'{ABC}  x\n'


def test_coreutils_check_what_we_write(directory):
    assert sha256sum(directory, '-c', '--strict', 'SHA256SUMS').returncode == 0
    assert len((directory / 'SHA256SUMS').read_text().splitlines()) == len(NAMES)
    (directory / 'a.bin').write_bytes(b'x')
    assert sha256sum(directory, '-c', 'SHA256SUMS').returncode != 0


@pytest.mark.parametrize('mode', ['--text', '--binary'])
def test_we_check_what_coreutils_write(directory, mode):
    listed = sha256sum(directory, mode, *NAMES).stdout
    (directory / 'SHA256SUMS').write_text(listed)
    io.check_sums(directory)
    (directory / 'ümlaut').write_bytes(b'')
    with pytest.raises(InputError, match='ümlaut: corrupt'):
        io.check_sums(directory)


@pytest.mark.parametrize('name', [name for name in NAMES if '\n' not in name])
def test_one_bit_one_byte_less_and_a_lost_file_are_named(directory, name):
    path = directory / name
    io.check_sums(directory)
    before = path.read_bytes()
    path.write_bytes(bytes([before[0] ^ 1]) + before[1:] if before else b'\0')
    with pytest.raises(InputError) as caught:
        io.check_sums(directory)
    assert str(caught.value).startswith(f'{path}: corrupt')
    path.write_bytes(before + b'x')
    with pytest.raises(InputError, match='corrupt'):
        io.check_sums(directory)
    path.unlink()
    with pytest.raises(InputError) as caught:
        io.check_sums(directory)
    assert str(caught.value) == f'{path}: no such file'


def test_files_that_are_not_listed_and_directories_without_sums_pass(directory, tmp_path):
    (directory / 'README.md').write_text('added later')
    io.check_sums(directory)
    (directory / 'SHA256SUMS').unlink()
    (directory / 'a.bin').unlink()
    io.check_sums(directory)
    io.check_sum(directory / 'ümlaut')


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (b'\xff', 'not UTF-8'),
        (b'abc  x\n', 'no line of SHA-256 and name'),
        (f'{ABC}  ../x\n'.encode(), 'expected a file below it'),
        (f'{ABC}  /etc/passwd\n'.encode(), 'expected a file below it'),
        (f'{ABC}  a\n{ABC}  a\n'.encode(), 'occurs twice'),
        (b'\0' * 100, 'no line of SHA-256 and name'),
        (f'{ABC}  {"n" * 300}\n'.encode(), 'ile name too long'),
        (f'{ABC}  a\0b\n'.encode(), 'expected a file below it'),
    ],
)
def test_a_malformed_list_is_refused_in_one_line(tmp_path, content, problem):
    (tmp_path / 'SHA256SUMS').write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        io.check_sums(tmp_path)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 600


def test_a_listed_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'SHA256SUMS').write_text(f'{ABC}  pipe\n')
    with pytest.raises(InputError, match='pipe or a device'):
        io.check_sums(tmp_path)


def test_the_sum_of_one_file_stands_beside_it(tmp_path):
    path = tmp_path / 'results.json'
    path.write_text('{}')
    io.write_sum(path)
    io.check_sum(path)
    assert sha256sum(tmp_path, '-c', 'results.json.sha256').returncode == 0
    path.write_text('{ }')
    with pytest.raises(InputError, match=r'results\.json: corrupt'):
        io.check_sum(path)
    path.unlink()
    with pytest.raises(InputError, match='no such file'):
        io.check_sum(path)
    (tmp_path / 'results.json.sha256').write_text(f'{ABC}  other\n')
    with pytest.raises(InputError, match="holds the sum of 'other'"):
        io.check_sum(path)
    io.remove_sum(path)
    io.check_sum(path)
