"""What a run wrote about itself is read field by field."""

import pytest

from lorajax import io
from lorajax.errors import InputError
from lorajax.experiment import records

CONFIG = {'heldouts': ['a', 'b'], 'seed': 3, 'methods': ['mean'], 'domains': {'a': 'math'}}
ROW = {'event': 'train', 'side': 'source', 'step': 3, 'tasks': ['a'], 'loss': [0.5]}


def test_settings_and_rows_come_back_as_they_were_written(tmp_path):
    io.write_json(tmp_path / 'config.json', {**CONFIG, 'a setting of another release': 1})
    assert records.read_config(tmp_path / 'config.json')['heldouts'] == ['a', 'b']
    rows = [ROW, {'event': 'other', 'loss': 'any'}, {**ROW, 'loss': None}, {**ROW, 'loss': 0.1}]
    io.write_jsonl(tmp_path / 'metrics.jsonl', rows)
    assert records.read_metrics(tmp_path / 'metrics.jsonl') == rows
    assert records.read_metrics(tmp_path / 'absent.jsonl') == []


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ({'heldouts': None}, 'lacks heldouts'),
        ({'heldouts': ['../x']}, "heldouts has '../x', expected names of tasks"),
        ({'heldouts': 'a'}, 'heldouts'),
        ({'seed': 'x'}, 'seed'),
        ({'domains': {'a': []}}, 'domains is'),
        ({'eval_per_task': -1}, 'eval_per_task'),
    ],
)
def test_other_settings_are_refused(tmp_path, change, problem):
    config = {name: value for name, value in {**CONFIG, **change}.items() if value is not None}
    io.write_json(tmp_path / 'config.json', config)
    with pytest.raises(InputError) as caught:
        records.read_config(tmp_path / 'config.json')
    line = str(caught.value)
    assert line.startswith(f'{tmp_path / "config.json"}: ') and problem in line


@pytest.mark.parametrize('change', [{'seconds': 'x'}, {'stage': 1}, {'compile_count': None}])
def test_other_rows_of_stages_are_refused(tmp_path, change):
    row = {'event': 'stage', 'stage': 'train', 'seconds': 1.5, 'compile_count': 2,
           'compile_seconds': 0.5, 'compile_cached': 0}  # fmt: skip
    io.write_jsonl(tmp_path / 'metrics.jsonl', [row, {**row, **change}])
    with pytest.raises(InputError, match=r'metrics\.jsonl:2: .*' + next(iter(change))):
        records.read_metrics(tmp_path / 'metrics.jsonl')


@pytest.mark.parametrize(
    'change',
    [{'step': -1}, {'step': 1.5}, {'loss': 'x'}, {'loss': [1e300]}, {'tasks': [1]}, {'side': 1},
     {'tokens_per_second': []}],
)  # fmt: skip
def test_other_rows_are_refused(tmp_path, change):
    io.write_jsonl(tmp_path / 'metrics.jsonl', [ROW, {**ROW, **change}])
    with pytest.raises(InputError, match=r'metrics\.jsonl:2: ' + next(iter(change))):
        records.read_metrics(tmp_path / 'metrics.jsonl')
