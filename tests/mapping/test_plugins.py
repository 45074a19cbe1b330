"""Methods of other packages: found by entry points, fitted, stored and loaded like any other."""

import pathlib
import re
import sys

import jax
import numpy as np
import pytest

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.mapping import plugins

PAGE = pathlib.Path(__file__).resolve().parents[2] / 'docs/tasks.md'


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with an entry point on the path, as pip does."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(name, code, entry):
        (tmp_path / f'{name}.py').write_text(code)
        info = tmp_path / f'{name}-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
        (info / 'entry_points.txt').write_text(f'[{plugins.GROUP}]\n{entry}\n')
        monkeypatch.delitem(sys.modules, name, raising=False)

    return put


def adapters(seed, fan_in):
    rng = np.random.default_rng(seed)

    def one():
        a = rng.standard_normal((2, fan_in, 2)).astype(np.float32)
        b = rng.standard_normal((2, 2, 5)).astype(np.float32)
        return {'layers': {'q_proj': {'a': a, 'b': b}}}

    return {f't{i}': one() for i in range(4)}


def test_the_example_of_the_page_is_a_method_like_any_other(install, tmp_path):
    code = re.search(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)[1]
    install('my_package', code, 'half_mean = my_package:HALF_MEAN')
    assert 'half_mean' in plugins.names()
    source, target = adapters(0, 3), adapters(1, 4)
    fitted = mapping.fit('half_mean', source, target)
    mean = mapping.fit('mean_delta', source, target).predict(source['t0'])['layers']['q_proj']
    fitted.save(tmp_path / 'stored')
    found = mapping.load(tmp_path / 'stored').predict(source['t0'])
    jax.tree.map(np.testing.assert_array_equal, found, fitted.predict(source['t0']))
    half = found['layers']['q_proj']
    # Both are truncated to the anchors' rank in the same way: float32 products of 4 terms.
    np.testing.assert_allclose(half['a'] @ half['b'], 0.5 * (mean['a'] @ mean['b']), atol=1e-5)
    assert fitted.diagnostics['loo_r2'] is not None


def test_what_a_package_cannot_give_is_said_in_one_line(install):
    install('broken', 'import nowhere_at_all', 'broken_one = broken:METHOD')
    install('empty', '', 'empty_one = empty:METHOD')
    install('other', 'METHOD = 3', 'three = other:METHOD')
    install('double', 'METHOD = 3', 'three = double:METHOD')
    for name, words in (
        ('broken_one', 'broken:METHOD of broken cannot be imported .*nowhere_at_all'),
        ('empty_one', "empty:METHOD of empty cannot be imported .*'METHOD'"),
        ('three', 'is offered by double, other, expected one'),
        ('broken_on', "did you mean 'broken_one'"),
    ):
        with pytest.raises(InputError, match=words):
            mapping.method_named(name)


def test_what_is_no_method_is_refused_and_built_in_names_stay(install):
    install('other', 'METHOD = 3', 'number = other:METHOD\nmean = other:METHOD')
    with pytest.raises(
        InputError, match=r'a package offers 3, expected a lorajax\.mapping\.Method'
    ):
        mapping.method_named('number')
    assert mapping.method_named('mean') is mapping.METHODS['mean']
