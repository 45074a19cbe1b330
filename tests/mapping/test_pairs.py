"""Pairs of the user's own: both layouts are found, what is missing or foreign is named."""

import shutil

import numpy as np
import pytest

from lorajax.errors import ArgumentError, InputError
from lorajax.mapping import pairs
from tests.commands import toy_adapters


@pytest.fixture
def small(tmp_path):
    for seed in range(3):
        for side in pairs.SIDES:
            toy_adapters.write(tmp_path / f'pairs/t{seed}/{side}', side, seed, f'a/{side}')
    return tmp_path / 'pairs'


def test_pairs_are_read_by_task_and_side(small):
    source, target, bases = pairs.read(small)
    assert bases == {'source': 'a/source', 'target': 'a/target'}
    assert list(source) == list(target) == ['t0', 't1', 't2']
    expected = toy_adapters.draw('target', 1)['layers']['o_proj']['b']
    np.testing.assert_allclose(target['t1']()['layers']['o_proj']['b'], expected, rtol=1e-6)


def test_the_layout_of_a_run_gives_the_same(small, tmp_path):
    for path in list(small.glob('*/*')):
        (tmp_path / 'run' / path.name).mkdir(parents=True, exist_ok=True)
        shutil.copytree(path, tmp_path / 'run' / path.name / path.parent.name)
    (tmp_path / 'run' / 'repeated' / 't0').mkdir(parents=True)  # a run has more than the two
    ours, theirs = pairs.read(tmp_path / 'run'), pairs.read(small)
    assert ours[2] == theirs[2] and list(ours[0]) == list(theirs[0])
    for task, load in theirs[1].items():
        for name, entry in load()['layers'].items():
            np.testing.assert_array_equal(ours[1][task]()['layers'][name]['a'], entry['a'])
    shutil.rmtree(tmp_path / 'run' / 'target' / 't1')
    with pytest.raises(InputError, match='target/t1: is missing'):
        pairs.read(tmp_path / 'run')


def test_of_several_trainings_the_mean_update_is_taken(small):
    alone = pairs.read(small)[1]['t1']()['layers']
    (small / 't1' / 'target').rename(small / 't1' / 'seed0')
    (small / 't1' / 'target').mkdir()
    (small / 't1' / 'seed0').rename(small / 't1' / 'target' / 'seed0')
    toy_adapters.write(small / 't1' / 'target' / 'seed1', 'target', 7, 'a/target')
    other = toy_adapters.draw('target', 7)['layers']
    both = pairs.read(small)[1]['t1']()['layers']
    for name, entry in both.items():
        expected = sum(one[name]['a'] @ one[name]['b'] for one in (alone, other)) / 2
        np.testing.assert_allclose(entry['a'] @ entry['b'], expected, rtol=1e-4, atol=1e-6)
    toy_adapters.write(small / 't1' / 'target' / 'seed2', 'target', 8, 'b/other')
    with pytest.raises(InputError, match=r"target/seed2: belongs to 'b/other'"):
        pairs.read(small)


def test_a_missing_half_is_named(small):
    shutil.rmtree(small / 't1' / 'target')
    with pytest.raises(InputError, match='t1/target: is missing'):
        pairs.read(small)


def test_an_adapter_of_another_base_is_named(small):
    shutil.rmtree(small / 't2' / 'source')
    toy_adapters.write(small / 't2' / 'source', 'source', 5, 'b/other')
    with pytest.raises(InputError, match=r"t2/source: belongs to 'b/other', .* to 'a/source'"):
        pairs.read(small)


def test_an_empty_or_absent_directory_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match='no such directory'):
        pairs.read(tmp_path / 'no')
    with pytest.raises(ArgumentError, match=r'holds no <task>/\{source,target\}'):
        pairs.read(tmp_path)
