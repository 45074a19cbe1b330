"""Parts of a stored mapping that do not belong together are named."""

import json

import pytest

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.io import tensor_files
from tests.mapping.worlds import make_world


@pytest.fixture
def root(tmp_path):
    mapping.fit('delta_ridge', *make_world(tasks=4)).save(tmp_path / 'mapping')
    (tmp_path / 'mapping' / 'SHA256SUMS').unlink()
    return tmp_path / 'mapping'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['source'].pop(), 'source is .*, expected the tasks'),
        (lambda c: c['tensors'].pop(), 'frame_tensors differ from tensors'),
        (lambda c: c['query_shapes']['q_proj'].update(n_in=7), 'query_shapes are not those of'),
        (lambda c: c.update(method='mean'), 'has .*, expected .* for mean'),
    ],
)
def test_a_manifest_that_does_not_fit_the_files(root, change, message):
    path = root / 'mapping.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f'mapping.json: {message}'):
        mapping.load(root)


def test_bases_that_do_not_fit_each_other_are_named(root):
    file = root / 'frame/0001.safetensors'
    parts = tensor_files.read(file)
    tensor_files.write(file, {**parts, 'a': parts['a'][1:]})
    with pytest.raises(InputError, match=r'0001.safetensors: holds shapes .*, expected q_in'):
        mapping.load(root)
