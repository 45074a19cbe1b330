"""Names of models with and without a revision."""

import pytest

from lorajax.model_names import is_hub_id, join_revision, split_revision


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('owner/name', ('owner/name', None)),
        ('owner/na-me_1.5@v1.0', ('owner/na-me_1.5', 'v1.0')),
        ('owner/name@refs/pr/3', ('owner/name', 'refs/pr/3')),
        ('/models/owner@2', ('/models/owner@2', None)),
        ('toy-source', ('toy-source', None)),
    ],
)
def test_splitting_and_joining_are_inverse(name, parts):
    assert split_revision(name) == parts
    assert join_revision(*parts) == name


def test_a_directory_keeps_its_at_sign(tmp_path, monkeypatch):
    (tmp_path / 'a' / 'b@c').mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert split_revision('a/b@c') == ('a/b@c', None)


def test_a_revision_of_what_is_no_hub_id_is_left_out():
    assert join_revision('/models/x', 'main') == '/models/x'
    assert join_revision(None, 'main') is None


def test_hub_ids_have_an_owner_and_no_path():
    assert is_hub_id('owner/name')
    assert not any(map(is_hub_id, ('name', 'a/b/c', './b', '../b', '/b', 'a/b@c', 'a/', '')))


@pytest.mark.parametrize('name', ['a/' + 'n' * 300, 'a\0/b', '\ud800/b', '', '/' + 'n/' * 3000])
def test_what_no_file_system_takes_is_no_directory(name):
    """Names come out of adapter_config.json, where anything may stand."""
    assert split_revision(name) == (name, None)
