"""mapping.json: a field that is missing, mistyped or impossible is named."""

import copy
import json

import pytest

from lorajax.errors import InputError
from lorajax.mapping import manifest
from lorajax.mapping.options import Options
from lorajax.mapping.shapes import Shape

HEADER = manifest.Header(
    'delta_ridge', Options(), ('task0', 'task1'), {'q_proj': Shape(2, 8, 6, 2)}, 2
)
CONTENT = {
    **manifest.write_header(HEADER),
    'tensors': [['q_proj', 0], ['q_proj', 1]],
    'info': {'mean_anchor_norm': 1.0, 'validation': 'left-out anchors'},
}
FIELDS = ('method', 'options', 'tasks', 'query_shapes', 'output_rank', 'tensors', 'info')
VALUES = (None, 'text', 3.5, [], [[1, 2], ['q_proj']], {'a': 1})


def read(path, content):
    """Writes a manifest and reads all of it."""
    path.write_text(json.dumps(content))
    read = manifest.read(path)
    header = manifest.read_header(path, read)
    return header, manifest.read_tensors(path, read, 'tensors'), manifest.read_info(path, read)


def test_what_is_written_is_read(tmp_path):
    header, tensors, info = read(tmp_path / manifest.FILE, CONTENT)
    assert header == HEADER and tensors == [('q_proj', 0), ('q_proj', 1)]
    assert info == CONTENT['info']


def test_options_that_an_earlier_version_did_not_have_are_the_defaults(tmp_path):
    content = json.loads(json.dumps(CONTENT))
    assert content['options'].pop('sign') == HEADER.options.sign == 'largest'
    assert read(tmp_path / manifest.FILE, content)[0] == HEADER


@pytest.mark.parametrize('field', FIELDS)
def test_missing_and_mistyped_fields_are_named(tmp_path, field):
    path = tmp_path / manifest.FILE
    with pytest.raises(InputError, match=rf'mapping.json: lacks {field}, expected'):
        read(path, {name: value for name, value in CONTENT.items() if name != field})
    for value in VALUES:
        if (field, value) == ('method', 'text'):
            continue  # of the type that the field may have
        with pytest.raises(InputError, match=rf'mapping.json: {field}') as caught:
            read(path, {**CONTENT, field: value})
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.update(format=99), 'format is 99, expected 2'),
        (lambda c: c.update(method='delta_rigde'), "'delta_rigde': did you mean 'delta_ridge'"),
        (lambda c: c['options'].update(top_k='8'), "top_k '8': expected an integer"),
        (lambda c: c['options'].update(new=1), "options has 'new', which this version does not"),
        (lambda c: c['query_shapes']['q_proj'].update(rank=0), 'q_proj: rank is 0, expected an'),
        (lambda c: c['query_shapes'].update(x={}), 'x: is no projection'),
        (lambda c: c['tasks'].append('task0'), 'tasks is .*, expected a list of different names'),
        (lambda c: c['tensors'].append(['q_proj', -1]), 'tensors is .*, expected a list of pairs'),
        (lambda c: c['tensors'].pop(0), 'tensors is .*, the layers of each projection from 0 on'),
        (lambda c: c.update(output_rank=10**6), 'output_rank is 1000000, expected an integer fr'),
        (lambda c: c['info'].pop('mean_anchor_norm'), 'info: lacks mean_anchor_norm, expected a'),
        (lambda c: c['info'].update(mean_anchor_norm=-1), 'info: mean_anchor_norm is -1, expect'),
        (lambda c: c['info'].update(loo_r2='x'), "info: loo_r2 is 'x', expected a number"),
    ],
)
def test_impossible_values_are_named(tmp_path, change, message):
    content = copy.deepcopy(json.loads(json.dumps(CONTENT)))
    change(content)
    with pytest.raises(InputError, match=f'mapping.json: .*{message}|mapping.json: {message}'):
        read(tmp_path / manifest.FILE, content)
