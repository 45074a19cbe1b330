"""Mappings on disk: what is damaged, missing or mistyped is one line that names it."""

import json

import numpy as np
import pytest

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.io import tensor_files
from lorajax.io.tensor_files import read_header
from tests.mapping.worlds import dense, make_world


@pytest.mark.parametrize('name', ['global_ridge', 'matched_ridge', 'bilinear'])
def test_mappings_may_be_stored_in_half_the_bytes(name, world, tmp_path):
    fitted = mapping.fit(name, *world)
    sizes = []
    for dtype in ('float32', 'bfloat16'):
        fitted.save(tmp_path / dtype, dtype)
        files = (tmp_path / dtype).glob('*/*.safetensors')
        sizes.append(sum(entry.size for f in files for entry in read_header(f).values()))
    query = world[0]['task0']
    before, after = fitted.predict(query), mapping.load(tmp_path / 'bfloat16').predict(query)
    error = np.linalg.norm(dense(after) - dense(before))
    assert error < 2e-2 * np.linalg.norm(dense(before))  # bfloat16 keeps 8 bits
    assert all(leaf.dtype == np.float32 for f in after['layers'].values() for leaf in f.values())
    assert sizes[1] < 0.6 * sizes[0] or name == 'bilinear'
    with pytest.raises(InputError, match='dtype int4: expected one of float32, bfloat16'):
        fitted.save(tmp_path / 'other', 'int4')


@pytest.fixture
def root(tmp_path):
    mapping.fit('delta_ridge', *make_world(tasks=4)).save(tmp_path / 'mapping')
    return tmp_path / 'mapping'


def test_damaged_mappings_are_refused(root, tmp_path):
    file = root / 'frame' / '0001.safetensors'
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)
    with pytest.raises(InputError, match=r'0001.safetensors: corrupt: its SHA-256'):
        mapping.load(root)
    file.unlink()
    with pytest.raises(InputError, match=r'0001.safetensors: no such file'):
        mapping.load(root)
    (root / 'mapping.json').write_text('{"format": 99}')
    with pytest.raises(InputError, match='format is 99, expected 2'):
        mapping.load(root)
    with pytest.raises(InputError, match='no such file'):
        mapping.load(tmp_path / 'nothing')


def test_a_reversed_list_is_refused(root):
    path = root / 'mapping.json'
    content = json.loads(path.read_text())
    content['source'].reverse()
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'mapping.json: corrupt: its SHA-256'):
        mapping.load(root)
    (root / 'SHA256SUMS').unlink()
    with pytest.raises(InputError, match=r'mapping.json: source is .*, expected a list of diff'):
        mapping.load(root)


def test_a_file_of_bases_that_holds_something_else_is_named(root):
    (root / 'SHA256SUMS').unlink()
    (root / 'frame/0000.safetensors').write_bytes((root / 'arrays.safetensors').read_bytes())
    with pytest.raises(InputError, match=r'0000.safetensors: holds .*, expected'):
        mapping.load(root)


def test_bases_that_are_not_finite_are_one_line(root):
    (root / 'SHA256SUMS').unlink()
    file = root / 'frame/0001.safetensors'
    parts = tensor_files.read(file)
    tensor_files.write(file, {**parts, 'a': parts['a'] * np.float32(np.nan)})
    loaded = mapping.load(root)  # reads no basis
    with pytest.raises(InputError, match='a predicted update holds NaN or infinity'):
        loaded.predict(make_world(tasks=4)[0]['task0'])
