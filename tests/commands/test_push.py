"""`push` passes its flags on; what it sends is tested beside `lorajax.models.hf.upload`."""

import pytest

from lorajax.models.hf import upload
from tests.commands.command_line import run


@pytest.mark.parametrize('more', [(), ('--public', '--message=words')])
def test_flags_arrive(monkeypatch, caplog, more):
    seen = []
    monkeypatch.setattr(upload, 'push', lambda *values: seen.append(values) or 'https://address')
    with caplog.at_level('INFO', logger='absl'):
        run('push', '--adapter=mine', '--repo=owner/name', *more)
    assert seen == [('mine', 'owner/name', not more, 'words' if more else '')]
    assert 'mine: https://address' in caplog.text
