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


def rewrite(root, change, keep_sums=False):
    """Changes mapping.json; without its list of sums the change has to be found by its content."""
    path = root / 'mapping.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    if not keep_sums:
        (root / 'SHA256SUMS').unlink()


def test_a_reversed_list_is_refused(root):
    rewrite(root, lambda content: content['source'].reverse(), keep_sums=True)
    with pytest.raises(InputError, match=r'mapping.json: corrupt: its SHA-256'):
        mapping.load(root)
    (root / 'SHA256SUMS').unlink()
    with pytest.raises(InputError, match=r'mapping.json: source is .*, expected a list of diff'):
        mapping.load(root)


FIELDS = (
    'method', 'options', 'tasks', 'query_shapes', 'output_rank', 'tensors', 'info',
)  # fmt: skip


VALUES = (None, 'text', 3.5, [], [[1, 2], ['q_proj']], {'a': 1})
RIGHT = (('method', 'text'),)  # of the type that the field may have


@pytest.mark.parametrize(
    ('field', 'value'),
    [(field, value) for field in FIELDS for value in VALUES if (field, value) not in RIGHT],
)
def test_mistyped_fields_are_named(root, field, value):
    rewrite(root, lambda content: content.update({field: value}))
    with pytest.raises(InputError, match=rf'mapping.json: {field}') as caught:
        mapping.load(root)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('field', FIELDS)
def test_missing_fields_are_named(root, field):
    rewrite(root, lambda content: content.pop(field))
    with pytest.raises(InputError, match=rf'mapping.json: lacks {field}, expected'):
        mapping.load(root)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.update(method='delta_rigde'), "'delta_rigde': did you mean 'delta_ridge'"),
        (lambda c: c['options'].update(top_k='8'), "top_k '8': expected an integer"),
        (lambda c: c['options'].pop('seed'), "options differ in 'seed'"),
        (lambda c: c['query_shapes']['q_proj'].update(rank=0), 'q_proj: rank is 0, expected an'),
        (lambda c: c['query_shapes'].update(x={}), 'x: is no projection'),
        (lambda c: c['tasks'].append('task0'), 'tasks is .*, expected a list of different names'),
        (lambda c: c['source'].pop(), 'source is .*, expected the tasks'),
        (lambda c: c['tensors'].append(['q_proj', -1]), 'tensors is .*, expected a list of pairs'),
        (lambda c: c['tensors'].pop(0), 'tensors is .*, the layers of each projection from 0 on'),
        (lambda c: c['tensors'].pop(), 'frame_tensors differ from tensors'),
        (lambda c: c.update(output_rank=10**6), 'output_rank is 1000000, expected an integer fr'),
        (lambda c: c['info'].pop('mean_anchor_norm'), 'info: lacks mean_anchor_norm, expected a'),
        (lambda c: c['info'].update(mean_anchor_norm=-1), 'info: mean_anchor_norm is -1, expect'),
        (lambda c: c['info'].update(loo_r2='x'), "info: loo_r2 is 'x', expected a number"),
        (lambda c: c['query_shapes']['q_proj'].update(n_in=7), 'query_shapes are not those of'),
        (lambda c: c.update(method='mean'), 'has .*, expected .* for mean'),
    ],
)
def test_impossible_values_are_named(root, change, message):
    rewrite(root, change)
    with pytest.raises(InputError, match=f'mapping.json: .*{message}|mapping.json: {message}'):
        mapping.load(root)


def test_a_file_of_bases_that_holds_something_else_is_named(root):
    (root / 'SHA256SUMS').unlink()
    (root / 'frame/0000.safetensors').write_bytes((root / 'arrays.safetensors').read_bytes())
    with pytest.raises(InputError, match=r'0000.safetensors: holds .*, expected'):
        mapping.load(root)


def test_bases_that_do_not_fit_each_other_are_named(root):
    (root / 'SHA256SUMS').unlink()
    file = root / 'frame/0001.safetensors'
    parts = tensor_files.read(file)
    tensor_files.write(file, {**parts, 'a': parts['a'][1:]})
    with pytest.raises(InputError, match=r'0001.safetensors: holds shapes .*, expected q_in'):
        mapping.load(root)


def test_bases_that_are_not_finite_are_one_line(root):
    (root / 'SHA256SUMS').unlink()
    file = root / 'frame/0001.safetensors'
    parts = tensor_files.read(file)
    tensor_files.write(file, {**parts, 'a': parts['a'] * np.float32(np.nan)})
    loaded = mapping.load(root)  # reads no basis
    with pytest.raises(InputError, match='a predicted update holds NaN or infinity'):
        loaded.predict(make_world(tasks=4)[0]['task0'])
