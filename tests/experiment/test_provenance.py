"""What a result was made with is recorded so that a change of it shows."""

import importlib.metadata
import re

from lorajax.experiment import provenance


def test_versions_are_those_installed():
    versions = provenance.versions()
    assert versions['jax'] == importlib.metadata.version('jax') and len(versions) >= 8


def test_the_commit_is_one_where_there_is_a_repository():
    commit = provenance.git_commit()
    assert commit is None or re.fullmatch('[0-9a-f]{40}', commit)


def test_a_changed_byte_size_or_name_changes_the_fingerprint(tmp_path):
    (tmp_path / 'a.safetensors').write_bytes(b'12')
    (tmp_path / 'notes').write_bytes(b'x')
    first = provenance.fingerprint(tmp_path, '*.safetensors')
    (tmp_path / 'notes').write_bytes(b'y')
    assert provenance.fingerprint(tmp_path, '*.safetensors') == first
    for content in (b'13', b'123'):
        (tmp_path / 'a.safetensors').write_bytes(content)
        assert provenance.fingerprint(tmp_path, '*.safetensors') != first
    (tmp_path / 'a.safetensors').write_bytes(b'12')
    (tmp_path / 'a.safetensors').rename(tmp_path / 'b.safetensors')
    assert provenance.fingerprint(tmp_path, '*.safetensors') != first


def test_a_large_file_is_known_by_its_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, '_WHOLE_BYTES', 100)
    monkeypatch.setattr(provenance, '_BEGINNING_BYTES', 10)
    monkeypatch.setattr(provenance, '_NUM_BLOCKS', 5)
    monkeypatch.setattr(provenance, '_BLOCK_BYTES', 4)
    path = tmp_path / 'a.safetensors'

    def with_changed(position):
        content = bytearray(1000)
        if position is not None:
            content[position] = 1
        path.write_bytes(content)
        return provenance.fingerprint(tmp_path, '*.safetensors')

    first = with_changed(None)
    assert all(with_changed(seen) != first for seen in (0, 9, 249, 252, 498, 750, 996, 999))
    assert all(with_changed(unseen) == first for unseen in (10, 248, 253, 995))


def test_the_hash_of_rows_covers_training_and_evaluation_and_nothing_made_later(tmp_path):
    for part in ('train', 'eval', 'answered'):
        (tmp_path / part).mkdir()
        (tmp_path / part / 't.jsonl').write_text(part)
    first = provenance.hash_rows(tmp_path)
    (tmp_path / 'answered' / 't.jsonl').write_text('other')
    (tmp_path / 'train' / 't.jsonl.sha256').write_text('a sum')
    assert provenance.hash_rows(tmp_path) == first
    for part in ('train', 'eval'):
        (tmp_path / part / 't.jsonl').write_text('other')
        assert provenance.hash_rows(tmp_path) != first
        (tmp_path / part / 't.jsonl').write_text(part)
