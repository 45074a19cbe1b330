"""Pairs of adapters become a mapping that `translate` reads."""

import pathlib

import numpy as np
import pytest

from lorajax import io, lora, mapping
from lorajax.errors import ArgumentError, InputError
from tests.commands import toy_adapters
from tests.commands.command_line import run


@pytest.fixture
def pairs(tmp_path):
    for seed in range(4):
        for side in ('source', 'target'):
            toy_adapters.write(tmp_path / f'pairs/t{seed}/{side}', side, seed, f'a/{side}')
    return tmp_path


def test_map_then_translate_predicts_what_the_library_predicts(pairs):
    run('map', f'--pairs={pairs}/pairs', f'--output={pairs}/mapping', '--method=delta_ridge')
    toy_adapters.write(pairs / 'query', 'source', 9, 'a/source')
    run('translate', f'--mapping={pairs}/mapping', f'--adapter={pairs}/query',
        f'--output={pairs}/out')  # fmt: skip
    anchors = [
        {f't{seed}': toy_adapters.draw(side, seed) for seed in range(4)}
        for side in ('source', 'target')
    ]
    expected = mapping.fit('delta_ridge', *anchors).predict(toy_adapters.draw('source', 9))
    config, actual = lora.load_peft(pairs / 'out')
    assert config.base_model == 'a/target'
    for name, entry in expected['layers'].items():
        delta = np.einsum('lir,lro->lio', entry['a'], entry['b'])
        other = actual['layers'][name]
        np.testing.assert_allclose(
            np.einsum('lir,lro->lio', other['a'], other['b']), delta, atol=1e-5
        )


def test_every_file_of_a_mapping_has_its_sum(pairs):
    run('map', f'--pairs={pairs}/pairs', f'--output={pairs}/mapping', '--method=mean')
    io.check_sums(pairs / 'mapping')
    listed = (pairs / 'mapping' / 'SHA256SUMS').read_text()
    for path in pathlib.Path(pairs / 'mapping').rglob('*'):
        if path.is_file() and path.name != 'SHA256SUMS':
            assert path.relative_to(pairs / 'mapping').as_posix() in listed


def test_bad_input_leaves_nothing(pairs):
    output = f'--output={pairs}/mapping'
    with pytest.raises(InputError, match='delta_ridge'):
        run('map', f'--pairs={pairs}/pairs', output, '--method=delta_rigde')
    with pytest.raises(InputError, match='nowhere'):
        run('map', f'--pairs={pairs}/nowhere', output)
    with pytest.raises(ArgumentError, match='exists already'):
        run('map', f'--pairs={pairs}/pairs', f'--output={pairs}/pairs')
    assert not (pairs / 'mapping').exists()
