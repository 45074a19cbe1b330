"""Many adapters: all are found, each stands for itself, and a call that was killed goes on."""

import json
import pathlib

import numpy as np
import pytest

from lorajax import io
from lorajax.commands import fleet
from lorajax.commands.translation import Result
from lorajax.distillation import ladder
from lorajax.errors import ArgumentError, InputError
from lorajax.lora.peft import CONFIG_FILE
from lorajax.mapping.quality import Expected
from lorajax.mapping.verdict import Verdict


def make(directory):
    directory.mkdir(parents=True)
    (directory / CONFIG_FILE).write_text('{}')
    return directory


def test_adapters_are_found_at_any_depth_and_named_by_their_path(tmp_path):
    for name in ('root/b', 'root/a/x', 'alone'):
        make(tmp_path / name)
    found = fleet.find([str(tmp_path / 'root'), str(tmp_path / 'alone')])
    assert found == {
        'a/x': tmp_path / 'root/a/x', 'b': tmp_path / 'root/b', 'alone': tmp_path / 'alone',
    }  # fmt: skip
    with pytest.raises(ArgumentError, match='has the same name'):
        fleet.find([str(tmp_path / 'root'), str(tmp_path / 'root/b')])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ArgumentError, match='is no adapter and holds none'):
        fleet.find([str(tmp_path / 'empty')])
    with pytest.raises(ArgumentError, match='no such directory'):
        fleet.find([str(tmp_path / 'nowhere')])


class Translator:
    """Refuses names with an x, and notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def translate(self, paths):
        self.asked.append(list(paths))
        for name in paths:
            if 'x' in name:
                raise InputError(f'{name} is bad')
        empty = {'layers': {'q_proj': {'a': np.zeros((1, 1, 1)), 'b': np.zeros((1, 1, 1))}}}
        return {
            name: Result(path, {}, ladder.Reached(empty), Expected(0.5, 0.1, 0.9, True),
                         Verdict('check first', 'because'))
            for name, path in paths.items()
        }  # fmt: skip

    @staticmethod
    def write(directory, result):
        (directory / CONFIG_FILE).write_text(str(result.path))

    def run(self, output, names, settings=None, shard=''):
        paths = {name: pathlib.Path('in') / name for name in names}
        fleet.run(output, paths, settings or {}, self.translate, self.write, shard)


def test_a_bad_adapter_keeps_no_other_from_being_written(tmp_path):
    translator = Translator()
    with pytest.raises(InputError, match='1 of 3 adapters were refused, x among them: x is bad'):
        translator.run(tmp_path / 'out', ['a', 'x', 'b'])
    assert translator.asked == [['a', 'x', 'b'], ['a'], ['x'], ['b']]
    rows = json.loads((tmp_path / 'out/summary.json').read_text())
    assert [row['status'] for row in rows.values()] == ['written', 'refused', 'written']
    assert (tmp_path / 'out/b' / CONFIG_FILE).read_text() == 'in/b'
    assert not (tmp_path / 'out/x').exists()


def test_what_is_there_is_kept_and_the_settings_must_be_the_same(tmp_path):
    Translator().run(tmp_path / 'out', ['a'], {'mapping': 'm'})
    translator = Translator()
    translator.run(tmp_path / 'out', ['a', 'b'], {'mapping': 'm'})
    assert translator.asked == [['b']]
    with pytest.raises(ArgumentError, match='was begun with other settings'):
        translator.run(tmp_path / 'out', ['a'], {'mapping': 'n'})
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/file').write_text('of the user')
    with pytest.raises(ArgumentError, match='exists already'):
        translator.run(tmp_path / 'full', ['a'])


def test_adapters_go_in_groups_and_a_shard_has_a_summary_of_its_own(tmp_path):
    translator = Translator()
    names = [f'n{i}' for i in range(fleet.TOGETHER + 1)]
    translator.run(tmp_path / 'out', names, shard='_0_of_2')
    assert [len(group) for group in translator.asked] == [fleet.TOGETHER, 1]
    assert list(io.read_json(tmp_path / 'out/summary_0_of_2.json')) == names


def test_the_table_has_a_line_for_each_adapter():
    rows = {
        'one': {'status': 'written', 'rung': 'map', 'verdict': 'use', 'reason': 'good; and more',
                'expected_share_of_map': {'share': 0.5, 'low': -0.25, 'high': 0.75}},
        'second': {'status': 'refused', 'reason': 'y' * 200},
    }  # fmt: skip
    heads, one, second = fleet.table(rows)
    assert heads.split()[:4] == ['adapter', 'status', 'rung', 'verdict']
    assert '0.50 [-0.25, 0.75]' in one and one.endswith('good')
    assert second.index('refused') == one.index('written') and len(second) < 200
