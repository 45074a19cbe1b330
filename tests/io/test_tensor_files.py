"""Safetensors files: what the package writes we read and the other way round, damage is named."""

import json
import os
import weakref

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorajax.errors import InputError
from lorajax.io import tensor_files

TENSORS = {
    'matrix': np.arange(12, dtype=np.float32).reshape(3, 4),
    'half': np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3),
    'odd': np.arange(3, dtype=np.int8),
    'wide': np.array([1.5, -2.5]),
    'one': np.array(3, np.int64),
    'none': np.ones((0, 5), np.float16),
    'is': np.array([True, False]),
}


def same(first, second):
    return first.keys() == second.keys() and all(
        (value.dtype, value.shape, value.tobytes())
        == (second[name].dtype, second[name].shape, second[name].tobytes())
        for name, value in first.items()
    )


@pytest.mark.parametrize('read', [tensor_files.read, tensor_files.map_tensors])
@pytest.mark.parametrize('write', [tensor_files.write, lambda path, t: save_file(t, path)])
def test_every_dtype_and_shape_travels(tmp_path, read, write):
    write(tmp_path / 'x', TENSORS)
    assert same(read(tmp_path / 'x'), TENSORS)


def test_the_package_reads_what_we_write(tmp_path):
    tensor_files.write(tmp_path / 'x', TENSORS)
    assert same(load_file(tmp_path / 'x'), TENSORS)


def test_equal_tensors_give_equal_bytes(tmp_path):
    tensor_files.write(tmp_path / 'x', TENSORS)
    tensor_files.write(tmp_path / 'y', dict(reversed(TENSORS.items())))
    assert (tmp_path / 'x').read_bytes() == (tmp_path / 'y').read_bytes()


def test_the_header_says_where_bytes_lie(tmp_path):
    tensor_files.write(tmp_path / 'x', TENSORS)
    data = (tmp_path / 'x').read_bytes()
    entries = tensor_files.read_header(tmp_path / 'x')
    assert [entry.start for entry in entries.values()] == sorted(
        entry.start for entry in entries.values()
    )
    for name, entry in entries.items():
        assert data[entry.start : entry.start + entry.size] == TENSORS[name].tobytes()
        assert (entry.dtype, entry.shape) == (TENSORS[name].dtype, TENSORS[name].shape)
        assert entry.start % entry.dtype.itemsize == 0


def test_views_are_of_the_file_and_cannot_be_written_to(tmp_path):
    tensor_files.write(tmp_path / 'x', TENSORS)
    views = tensor_files.map_tensors(tmp_path / 'x')
    assert not any(view.flags.owndata or view.flags.writeable for view in views.values())
    start = tensor_files.read_header(tmp_path / 'x')['odd'].start
    with open(tmp_path / 'x', 'r+b') as file:
        file.seek(start)
        file.write(b'\x07')
    assert views['odd'][0] == 7


def pack(header, data=b''):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, 'little') + text + data


def entry(dtype, shape, *offsets):
    return {'dtype': dtype, 'shape': shape, 'data_offsets': list(offsets)}


def test_tensors_that_start_anywhere_are_read(tmp_path):
    """Other writers need not align."""
    header = {'a': entry('U8', [1], 0, 1), 'b': entry('F32', [2], 1, 9)}
    (tmp_path / 'x').write_bytes(pack(header, b'\1' + np.float32([1, 2]).tobytes()))
    for read in (tensor_files.read, tensor_files.map_tensors):
        np.testing.assert_array_equal(read(tmp_path / 'x')['b'], [1, 2])


FORM = 'truncated, corrupt or not safetensors'
ONE = {'a': entry('F32', [1], 0, 4)}
DAMAGED = {
    'empty': (b'', FORM),
    'a pickle': (b'\x80\x02}q\x00.' * 9, FORM),
    'truncated': (pack(ONE, bytes(3)), f'{FORM}: .* \\({8 + len(json.dumps(ONE)) + 3} bytes\\)'),
    'bytes left over': (pack(ONE, bytes(5)), FORM),
    'a hole': (pack({**ONE, 'b': entry('F32', [1], 8, 12)}, bytes(12)), FORM),
    'an overlap': (pack({**ONE, 'b': entry('F32', [2], 0, 8)}, bytes(8)), FORM),
    'two names of one tensor': (pack({**ONE, 'b': entry('F32', [1], 0, 4)}, bytes(4)), FORM),
    'a name twice': (
        pack(json.dumps(ONE)[:-1].encode() + b',' + json.dumps(ONE)[1:].encode(), bytes(4)),
        "'a' occurs twice",
    ),
    'a shape that overflows': (pack({'a': entry('F32', [2**63, 2], 0, 4)}, bytes(4)), FORM),
    'a negative shape': (pack({'a': entry('F32', [-1], 0, 4)}, bytes(4)), FORM),
    'a shape of 5,000 digits': (pack(b'{"a":{"shape":[' + b'9' * 5000), FORM),
    'nesting': (pack(b'{"a":' * 100_000), FORM),
    'a header beyond the file': ((1 << 40).to_bytes(8, 'little') + b'{}', FORM),
    'an unknown dtype': (pack({'a': entry('F7', [1], 0, 4)}, bytes(4)), FORM),
    'a dtype of no use here': (
        pack({'a': entry('F8_E4M3', [4], 0, 4)}, bytes(4)),
        'a has dtype F8_E4M3, expected one of F64, ',
    ),
}


@pytest.mark.parametrize('case', DAMAGED)
def test_damage_is_one_line_with_the_path(tmp_path, case):
    data, problem = DAMAGED[case]
    path = tmp_path / 'x'
    path.write_bytes(data)
    for read in (tensor_files.read_header, tensor_files.read, tensor_files.map_tensors):
        with pytest.raises(InputError, match=f'^{path}: .*{problem}') as caught:
            read(path)
        assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize('name', ['absent', 'directory', 'pipe'])
def test_what_is_no_file_is_refused(tmp_path, name):
    (tmp_path / 'directory').mkdir()
    os.mkfifo(tmp_path / 'pipe')
    for read in (tensor_files.read_header, tensor_files.read, tensor_files.map_tensors):
        with pytest.raises(InputError, match=f'^{tmp_path / name}: '):
            read(tmp_path / name)


def test_tensors_are_made_one_after_the_other(tmp_path):
    """A checkpoint may be larger than memory: what was written is let go before the next."""
    alive = []
    specs = {f't{i}': tensor_files.Spec(np.dtype(np.float32), (1000,)) for i in range(5)}

    def produce(name):
        # The one just written may still be a local of the writer.
        assert sum(tensor() is not None for tensor in alive) <= 1
        tensor = np.full(1000, int(name[1]), np.float32)
        alive.append(weakref.ref(tensor))
        return tensor

    tensor_files.write_each(tmp_path / 'x', specs, produce)
    found = tensor_files.read(tmp_path / 'x')
    assert {name: float(value[0]) for name, value in found.items()} == {
        f't{i}': float(i) for i in range(5)
    }


def test_a_tensor_unlike_its_spec_leaves_nothing_behind(tmp_path):
    specs = {'a': tensor_files.Spec(np.dtype(np.float32), (2,))}
    with pytest.raises(ValueError, match=r'a is float32\(3,\)'):
        tensor_files.write_each(tmp_path / 'x', specs, lambda name: np.zeros(3, np.float32))
    assert not list(tmp_path.iterdir())
