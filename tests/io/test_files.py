"""Files appear whole or not at all."""

import pytest

from lorajax import io
from lorajax.errors import InputError


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'deep' / 'file.txt'
    io.write_text(path, 'old')
    with pytest.raises(RuntimeError), io.atomic_file(path) as temporary:
        temporary.write_text('half')
        raise RuntimeError
    assert path.read_text() == 'old'
    assert [p.name for p in path.parent.iterdir()] == ['file.txt']


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / 'directory'
    for content in ('old', 'new'):
        with io.atomic_directory(path) as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in path.iterdir()] == ['new']
    with pytest.raises(RuntimeError), io.atomic_directory(path) as temporary:
        (temporary / 'half').write_text('')
        raise RuntimeError
    assert [p.name for p in path.iterdir()] == ['new']
    assert [p.name for p in tmp_path.iterdir()] == ['directory']


def test_what_killed_runs_leave_is_removed(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / '.partial-x-12345678').write_text('')
    (tmp_path / '.partial-d-12345678').mkdir()
    (tmp_path / 'kept').write_text('')
    io.remove_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['a', 'kept']


@pytest.mark.parametrize('content', [b'{"a": 1}\n{', b'\xff'])
def test_malformed_lines_are_named(tmp_path, content):
    path = tmp_path / 'rows.jsonl'
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        io.read_jsonl(path)


def test_nan_is_not_json(tmp_path):
    with pytest.raises(ValueError, match='not JSON compliant'):
        io.write_json(tmp_path / 'x.json', {'a': float('nan')})
    assert not (tmp_path / 'x.json').exists()
