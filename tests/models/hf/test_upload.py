"""Adapters reach a hub on this machine whole, and every refusal is one line."""

import base64
import contextlib
import http.server
import json
import threading

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

from lorajax import lora
from lorajax.commands import dry_run, parse
from lorajax.errors import InputError
from lorajax.models.hf import upload

REPO = 'someone/adapter'


@pytest.fixture
def adapter(tmp_path):
    """An adapter of a published base, with a card and a file that has no business on the hub."""
    tree = {'layers': {'q_proj': {'a': np.ones((2, 8, 2)), 'b': np.ones((2, 2, 8))}}}
    config = lora.LoraConfig(rank=2, alpha=2, targets=('q_proj',))
    lora.save_peft(tmp_path / 'mine', config, tree, base_model='owner/base@v1')
    (tmp_path / 'mine' / 'README.md').write_text('---\nbase_model: owner/base\n---\nA card.\n')
    (tmp_path / 'mine' / 'notes.txt').write_text('private')
    return tmp_path / 'mine'


@contextlib.contextmanager
def hub(monkeypatch, status=200):
    """A hub that takes commits, or refuses with a status; yields the files by name."""
    received = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers['Content-Length']))
            answer = {}
            if self.path == '/api/repos/create':
                received['create'] = json.loads(body)
                received['token'] = self.headers['Authorization']
                answer = {'url': f'http://{self.headers["Host"]}/{REPO}', 'id': REPO, 'name': REPO}
            elif '/preupload/' in self.path:
                files = json.loads(body)['files']
                answer = {'files': [
                    {'path': f['path'], 'uploadMode': 'regular', 'shouldIgnore': False}
                    for f in files
                ]}  # fmt: skip
            elif '/commit/' in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line['key'] == 'file':
                        value = line['value']
                        received[value['path']] = base64.b64decode(value['content'])
                answer = {
                    'commitUrl': f'https://huggingface.co/{REPO}/commit/{"a" * 40}',
                    'commitOid': 'a' * 40,
                }  # fmt: skip
            self.send_response(status)
            content = json.dumps(answer if status == 200 else {'error': 'no'}).encode()
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    address = f'http://127.0.0.1:{server.server_port}'
    monkeypatch.setattr(constants, 'ENDPOINT', address)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(huggingface_hub.HfApi, '__init__', _at(address))
    monkeypatch.setenv('HF_TOKEN', 'secret')
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _at(address):
    """The client's constructor, whose default endpoint is bound when it is defined."""
    right = huggingface_hub.HfApi.__init__
    return lambda self, **options: right(self, **{'endpoint': address, **options})


def test_an_adapter_and_its_card_arrive_as_they_are(adapter, monkeypatch):
    with hub(monkeypatch) as received:
        address = upload.push(adapter, REPO, message='words')
    assert address.endswith('/commit/' + 'a' * 40)
    assert received.pop('token') == 'Bearer secret'
    created = received.pop('create')
    assert created['name'] == 'adapter' and created['organization'] == 'someone'
    assert created.get('private') is True or created.get('visibility') == 'private'
    names = {'adapter_config.json', 'adapter_model.safetensors', 'README.md', 'SHA256SUMS'}
    assert received == {name: (adapter / name).read_bytes() for name in names}


@pytest.mark.parametrize(('status', 'line'), [
    (401, 'hub.* has no such model|answers with status 401'), (500, 'answers with status 500'),
    (403, 'answers with status 403'),
])  # fmt: skip
def test_a_hub_that_refuses_is_one_line(adapter, monkeypatch, status, line):
    monkeypatch.setattr('time.sleep', lambda _: None)
    with hub(monkeypatch, status), pytest.raises(InputError, match=line) as error:
        upload.push(adapter, REPO)
    assert '\n' not in str(error.value) and str(error.value).startswith(f'{REPO}: ')


def test_what_is_no_published_adapter_is_refused_before_the_hub_is_asked(adapter, monkeypatch):
    monkeypatch.delenv('HF_TOKEN', raising=False)
    monkeypatch.setattr(constants, 'HF_TOKEN_PATH', str(adapter / 'no_token'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    with pytest.raises(InputError, match='expected HF_TOKEN set to one that may write'):
        upload.push(adapter, REPO)
    with pytest.raises(InputError, match='name: expected a name on the hub, owner/name'):
        upload.push(adapter, 'name')
    (adapter / 'README.md').unlink()
    with pytest.raises(InputError, match=r'has no README.md, expected a model card'):
        upload.push(adapter, REPO)
    config, tree = lora.load_peft(adapter)
    lora.save_peft(adapter.parent / 'toy', config, tree, base_model='toy-target')
    with pytest.raises(InputError, match='base_model_name_or_path is toy-target, expected'):
        upload.push(adapter.parent / 'toy', REPO)


def test_a_dry_run_names_the_files_and_sends_nothing(adapter):
    parsed = parse.parse(['push', f'--adapter={adapter}', f'--repo={REPO}'])
    lines = '\n'.join(dry_run.describe(*parsed))
    assert 'make someone/adapter (private)' in lines
    assert 'upload adapter_model.safetensors, 0.00' in lines and 'notes.txt' not in lines
