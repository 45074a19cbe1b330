"""Models by hub id: from the cache without a network, from a hub on this machine, and failing."""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from huggingface_hub import constants

from lorajax import models
from lorajax.errors import InputError
from lorajax.models import presets
from lorajax.models.hf import export
from lorajax.models.hf import hub as hub_lib

MAIN, PINNED = 'a' * 40, 'b' * 40
REPO = 'someone/tiny'
ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """Two states of one repository that differ in every weight: {commit: directory}."""
    found = {}
    for commit, preset, seed in ((MAIN, presets.QWEN2_TINY, 0), (PINNED, presets.LLAMA3_TINY, 1)):
        found[commit] = tmp_path_factory.mktemp('checkpoint')
        model = models.random_model(preset, jax.random.key(seed))
        export.save_params(found[commit], preset, model.params)
    return found


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no network, no token."""
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_TOKEN_PATH', str(tmp_path / 'token'))
    monkeypatch.delenv('HF_TOKEN', raising=False)
    return tmp_path / 'hub'


def fill(cache, checkpoints):
    """Lays the repository out as other programs leave it in the cache, main and a tag."""
    root = cache / 'models--someone--tiny'
    for commit, directory in checkpoints.items():
        snapshot = root / 'snapshots' / commit
        snapshot.mkdir(parents=True)
        for path in directory.iterdir():
            blob = root / 'blobs' / hashlib.sha256(path.read_bytes()).hexdigest()
            blob.parent.mkdir(exist_ok=True)
            blob.write_bytes(path.read_bytes())
            (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    for ref, commit in (('main', MAIN), ('v1.0', PINNED)):
        (root / 'refs').mkdir(exist_ok=True)
        (root / 'refs' / ref).write_text(commit)


def assert_loads(name, directory, **options):
    """The model under a name has the weights of a directory, bit for bit."""
    expected = models.load_model(str(directory))
    actual = models.load_model(name, **options)
    assert actual.config == expected.config
    jax.tree.map(np.testing.assert_array_equal, actual.params, expected.params)


@pytest.mark.parametrize(
    ('name', 'commit'),
    [(REPO, MAIN), (f'{REPO}@main', MAIN), (f'{REPO}@v1.0', PINNED), (f'{REPO}@{PINNED}', PINNED)],
)
def test_a_cached_model_loads_without_a_network(cache, checkpoints, name, commit):
    fill(cache, checkpoints)
    assert_loads(name, checkpoints[commit])


def test_the_revision_argument_is_honoured_and_must_not_contradict_the_name(cache, checkpoints):
    fill(cache, checkpoints)
    assert_loads(REPO, checkpoints[PINNED], revision='v1.0')
    with pytest.raises(InputError, match=r'^someone/tiny@main: .* another revision than v1\.0'):
        hub_lib.resolve(f'{REPO}@main', 'v1.0')


def test_what_is_not_cached_is_one_line_offline(cache, checkpoints):
    with pytest.raises(InputError) as error:
        hub_lib.resolve(f'{REPO}@v2')
    assert str(error.value) == (
        f'someone/tiny@v2: no such directory, the cache {cache} does not hold it, and '
        'HF_HUB_OFFLINE forbids to fetch it'
    )
    fill(cache, checkpoints)
    with pytest.raises(InputError, match='someone/tiny@v2: no such directory'):
        hub_lib.resolve(f'{REPO}@v2')


def test_a_directory_wins_over_an_id_even_with_an_at_sign(
    cache, checkpoints, tmp_path, monkeypatch
):
    (tmp_path / 'some').mkdir()
    (tmp_path / 'some' / 'model@2').symlink_to(checkpoints[MAIN])
    monkeypatch.chdir(tmp_path)
    assert_loads('some/model@2', checkpoints[MAIN])


@pytest.mark.parametrize('name', ['gpt2', 'a/b/c', './nowhere', '/no/where', 'a/b@', 'a b/c'])
def test_other_names_are_refused_without_asking_anyone(cache, name):
    with pytest.raises(InputError, match=r'not a hub id \(owner/name or owner/name@revision\)'):
        hub_lib.resolve(name)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as a download needs; `server.states` says what it holds."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split('?')[0]
        self.server.requests.append(f'{self.command} {path}')
        revisions = {'main': MAIN, 'v1.0': PINNED, MAIN: MAIN, PINNED: PINNED}
        parts = path.strip('/').split('/')
        repo = '/'.join(parts[2:4] if parts[0] == 'api' else parts[:2])
        if repo == 'someone/down':
            return self.send(503)
        if repo == 'someone/gated' and self.headers['Authorization'] != 'Bearer secret':
            return self.send(401, error='GatedRepo')
        if repo not in (REPO, 'someone/gated'):
            # What huggingface.co does: it does not say which private models there are.
            return self.send(401, error='RepoNotFound')
        revision = parts[3] if parts[0] != 'api' else parts[5] if len(parts) > 5 else 'main'
        if revision not in revisions:
            return self.send(404, error='RevisionNotFound')
        commit = revisions[revision]
        directory = self.server.states[commit]
        if parts[0] != 'api':
            return self.send(200, (directory / parts[4]).read_bytes(), commit)
        if len(parts) > 4 and parts[4] == 'tree':
            files = [
                {'type': 'file', 'path': p.name, 'size': p.stat().st_size, 'oid': p.name * 2}
                for p in sorted(directory.iterdir())
            ]
            files.append({'type': 'file', 'path': 'original/params.json', 'size': 9, 'oid': '9'})
            return self.send(200, json.dumps(files).encode())
        return self.send(200, json.dumps({'id': repo, 'sha': commit}).encode())

    def send(self, status, body=b'', commit=None, error=None):
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        if commit:
            self.send_header('ETag', f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header('X-Repo-Commit', commit)
        if error:
            self.send_header('X-Error-Code', error)
        self.end_headers()
        if self.command == 'GET':
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(body)

    def log_message(self, *args):
        del args


@pytest.fixture
def hub(cache, checkpoints, monkeypatch):
    """A hub on a port of this machine."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.states, server.requests = checkpoints, []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'ENDPOINT', f'http://127.0.0.1:{server.server_port}')
    monkeypatch.setattr(
        constants, 'HUGGINGFACE_CO_URL_TEMPLATE',
        constants.ENDPOINT + '/{repo_id}/resolve/{revision}/{filename}',
    )  # fmt: skip
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(('name', 'commit'), [(REPO, MAIN), (f'{REPO}@v1.0', PINNED)])
def test_a_model_is_downloaded_once_and_kept(hub, checkpoints, monkeypatch, name, commit):
    assert_loads(name, checkpoints[commit])
    assert any(f'/resolve/{commit}/model.safetensors' in line for line in hub.requests)
    # The copies in other formats stay where they are.
    assert not any('original' in line for line in hub.requests)
    hub.requests.clear()
    hub_lib.resolve(name)
    assert not any(line.startswith('GET') and 'resolve' in line for line in hub.requests)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert_loads(name, checkpoints[commit])


def test_a_pinned_commit_is_asked_for_once(hub, checkpoints):
    assert_loads(f'{REPO}@{PINNED}', checkpoints[PINNED])
    hub.requests.clear()
    assert_loads(f'{REPO}@{PINNED}', checkpoints[PINNED])
    assert hub.requests == []


def test_the_token_of_the_environment_opens_a_gated_model(hub, checkpoints, monkeypatch):
    with pytest.raises(InputError) as error:
        hub_lib.resolve('someone/gated')
    assert str(error.value) == (
        f'someone/gated: no such directory, and {constants.ENDPOINT}/someone/gated is gated: '
        'accept its terms there and set HF_TOKEN to a token of yours'
    )
    monkeypatch.setenv('HF_TOKEN', 'secret')
    assert_loads('someone/gated', checkpoints[MAIN])


@pytest.mark.parametrize(
    ('name', 'line'),
    [
        ('someone/else', '{name}: no such directory, and {hub} has no such model or hides it: '
         'expected another name, or HF_TOKEN set to a token that may read it'),
        (f'{REPO}@v9', '{name}: no such directory, and {hub}/someone/tiny has no branch, tag or '
         'commit v9'),
        ('someone/down', '{name}: no such directory, and {hub} answers with status 503: '),
    ],
)  # fmt: skip
def test_refusals_of_the_hub_are_one_line(hub, cache, name, line):
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        hub_lib.resolve(name)
    assert str(error.value).startswith(line.format(name=name, hub=constants.ENDPOINT))
    assert '\n' not in str(error.value)
    assert time.monotonic() - start < 5
    assert not list(cache.rglob('*.safetensors'))


def test_a_cached_model_survives_a_hub_that_fails(hub, cache, checkpoints, monkeypatch):
    fill(cache, checkpoints)
    (cache / 'models--someone--tiny').rename(cache / 'models--someone--down')
    assert_loads('someone/down', checkpoints[MAIN])
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    assert_loads('someone/down@v1.0', checkpoints[PINNED])


def test_a_snapshot_of_which_another_program_fetched_a_part_is_enough(hub, cache, monkeypatch):
    directory = hub_lib.resolve(REPO)
    # Listed, never fetched; without the listing any folder would count as whole.
    assert 'original/params.json' in next(cache.rglob('trees/*.json')).read_text()
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert hub_lib.resolve(REPO) == directory
    (directory / 'model.safetensors').unlink()
    with pytest.raises(InputError, match='does not hold it'):
        hub_lib.resolve(REPO)


def test_a_hub_out_of_reach_is_not_asked_again_and_again(hub, monkeypatch):
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    start = time.monotonic()
    with pytest.raises(InputError, match='is out of reach'):
        hub_lib.resolve('someone/new')
    assert time.monotonic() - start < 15  # the hub client by itself goes on for 24 s


def test_without_a_network_the_command_line_says_so(tmp_path):
    env = {**os.environ, 'HF_HUB_OFFLINE': '0', 'HF_ENDPOINT': 'http://127.0.0.1:9',
           'HF_HOME': str(tmp_path)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-m', 'lorajax.launch', 'generate', '--model=owner/name', '--prompt=hi'],
        capture_output=True, text=True, cwd=ROOT, env=env, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(
        'lorajax: owner/name: no such directory, and http://127.0.0.1:9 is out of reach '
        '(ConnectError: '
    )
    assert 'Traceback' not in done.stderr


def test_an_unknown_hub_id_without_network_gives_one_line():
    with pytest.raises(InputError, match='nobody/nothing') as error:
        hub_lib.resolve('nobody/nothing')
    assert '\n' not in str(error.value)
