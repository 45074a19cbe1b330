"""Task files: found, checked, cut into pools that share no problem, without leaks."""

import json
import os
import subprocess
import sys

import pytest

from lorajax.errors import InputError
from lorajax.tasks import data, overlap, task_file
from lorajax.tasks.data import DataSource
from tests.tasks import dataset_hub

LEAD = 'Please read the following sentence with great care and then give me its last word:'


def write(directory, name='mine', rows=40, **content):
    """Writes a task file and its rows; returns the path of the file."""
    lines = [
        {'prompt': f'{LEAD} word number {i} of many', 'completion': f'many{i}'} for i in range(rows)
    ]
    (directory / f'{name}.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    path = directory / f'{name}.json'
    path.write_text(json.dumps({'data_files': f'{name}.jsonl'} | content))
    return path


def test_one_split_is_cut_the_same_way_every_time(tmp_path):
    task = task_file.read(write(tmp_path, metadata={'version': 1.5}))
    assert (task.name, task.scorer, task.version, task.domain) == ('mine', 'exact', 1.5, 'own')
    assert task.source.endswith('trained on train, evaluated on one problem in five of it')
    pools = task.pools(DataSource(), 'direct')
    assert len(pools.train) + len(pools.eval) == 40 and 2 <= len(pools.eval) <= 16
    assert not {e.item for e in pools.train} & {e.item for e in pools.eval}
    assert pools == task.pools(DataSource(str(tmp_path)), 'cot')


def test_no_training_set_holds_an_evaluation_item_of_any_task(tmp_path):
    """Words that all prompts share make no overlap, and shared rows of two tasks do."""
    one = task_file.read(write(tmp_path, 'one'))
    two = task_file.read(write(tmp_path, 'two', rows=20))  # the first rows of `one`
    drawn = data.draw([two], [one], DataSource(), 1000, 1000, 0)
    assert drawn['one'].eval and drawn['one'].train and drawn['two'].train
    counts = overlap.matrix(drawn)
    overlap.check(counts)
    alone = data.draw([two], [two], DataSource(), 1000, 1000, 0)['two']
    assert len(drawn['two'].train) < len(alone.train) + len(alone.eval)


def test_splits_and_names_of_lm_evaluation_harness(tmp_path):
    write(tmp_path, 'a', rows=6)
    write(tmp_path, 'b', rows=3)
    (tmp_path / 'b.jsonl').write_text(json.dumps({'prompt': 'other', 'completion': 'x'}))
    path = tmp_path / 'c.json'
    path.write_text(json.dumps({
        'task': 'named', 'dataset_path': 'json', 'test_split': 'validation',
        'dataset_kwargs': {'data_files': {'train': 'a.jsonl', 'validation': 'b.jsonl'}},
    }))  # fmt: skip
    pools = task_file.read(path).pools(DataSource(), 'direct')
    assert [len(pools.train), len(pools.eval)] == [6, 1] and pools.eval[0].prompt == 'other'
    assert list(task_file.read_all([tmp_path])) == ['a', 'b', 'named']


def test_a_hub_data_set_is_found_in_the_data_directory(tmp_path):
    path = tmp_path / 'hub.json'
    path.write_text(json.dumps({
        'dataset_path': 'owner/rows', 'test_split': 'test', 'scorer': 'numeric',
        'doc_to_text': '{{q}}', 'doc_to_target': '{{n}}',
    }))  # fmt: skip
    (tmp_path / 'rows').mkdir()
    (tmp_path / 'rows/test.jsonl').write_text('{"q": "1 + 1", "n": 2}\n')
    task = task_file.read(path)
    pools = task.pools(DataSource(str(tmp_path)), 'direct')
    assert not pools.train and pools.eval[0].reference == '2'
    assert data.draw_evaluation([task], DataSource(str(tmp_path)), 5, 0)['hub'].eval == pools.eval
    with pytest.raises(InputError, match='holds no training example'):
        data.draw([], [task], DataSource(str(tmp_path)), 5, 5, 0)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({'num_fewshot': 5}, "has 'num_fewshot', expected some of task, domain"),
        ({'task': 'a-b'}, "task is 'a-b', expected a name of letters"),
        ({'scorer': 'bleu'}, "scorer is 'bleu', expected 'numeric' or"),
        ({'data_files': None}, 'expected one of data_files and dataset_path'),
        ({'dataset_path': 'a/b'}, 'expected one of data_files and dataset_path'),
        ({'data_files': None, 'dataset_path': 'a/b'}, 'expected training_split, test_split'),
        ({'test_split': 'dev'}, "data_files has no 'dev', expected train"),
        ({'doc_to_text': '{{'}, 'doc_to_text is no template'),
        ({'regex_pattern': '('}, "regex_pattern '('"),
        ({'metadata': {'version': 'new'}}, "version is 'new'"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path, content, words):
    path = write(tmp_path, **content)
    with pytest.raises(InputError) as error:
        task_file.read(path)
    assert str(error.value).startswith(f'{path}: ') and words in str(error.value)


def test_rows_whose_own_answer_is_wrong_are_refused(tmp_path):
    path = write(tmp_path, scorer='regex', data_files={'test': 'mine.jsonl'})
    row = {'prompt': 'p', 'completion': 'Rome', 'pattern': 'Paris'}
    (tmp_path / 'mine.jsonl').write_text(json.dumps(row))
    with pytest.raises(InputError, match="own answer 'Rome' is wrong by the scorer regex"):
        task_file.read(path).pools(DataSource(), 'direct')
    (tmp_path / 'mine.jsonl').write_text('')
    with pytest.raises(InputError, match=r'mine\.jsonl: empty'):
        task_file.read(path).pools(DataSource(), 'direct')


def test_two_tasks_of_one_name_are_refused(tmp_path):
    write(tmp_path, 'a', task='same')
    write(tmp_path, 'b', task='same')
    with pytest.raises(InputError, match="task 'same' is also in"):
        task_file.read_all([tmp_path])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='holds no task file'):
        task_file.read_all([tmp_path / 'empty'])


def test_a_hub_data_set_is_asked_for_by_its_configuration(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load(name, config, split):
        asked.append((name, config, split))
        return [{'q': f'What is {i} + {i}?', 'n': f'#### {2 * i}'} for i in range(5)]

    monkeypatch.setattr(datasets, 'load_dataset', load)
    path = tmp_path / 'hub.json'
    content = {'dataset_path': 'owner/rows', 'training_split': 'train', 'test_split': 'dev',
               'scorer': 'numeric', 'doc_to_text': 'q', 'doc_to_target': 'n'}  # fmt: skip
    for more, config in (({}, None), ({'dataset_name': 'main'}, 'main')):
        path.write_text(json.dumps(content | more))
        pools = task_file.read(path).pools(DataSource(), 'direct')
        assert asked == [('owner/rows', config, 'train'), ('owner/rows', config, 'dev')]
        assert [example.reference for example in pools.eval] == ['0', '2', '4', '6', '8']
        asked.clear()


def test_a_hub_data_set_comes_over_the_network(tmp_path):
    """By the hub's own client, in a process of its own: its address is taken once, at import."""
    content = {'dataset_path': 'owner/rows', 'test_split': 'test', 'scorer': 'numeric',
               'doc_to_text': 'q', 'doc_to_target': 'n'}  # fmt: skip
    (tmp_path / 'hub.json').write_text(json.dumps(content))
    rows = b''.join(b'{"q": "%d + 1", "n": "%d"}\n' % (i, i + 1) for i in range(3))
    code = (
        'import sys; from lorajax.tasks import task_file; from lorajax.tasks.data import DataSource'
        '\nfor example in task_file.read(sys.argv[1]).pools(DataSource(), "direct").eval:'
        '\n  print(example.prompt, example.reference)'
    )
    with dataset_hub.serve('owner/rows', {'test.jsonl': rows}) as address:
        done = subprocess.run(
            [sys.executable, '-c', code, str(tmp_path / 'hub.json')],
            env={**os.environ, 'HF_ENDPOINT': address, 'HF_HUB_OFFLINE': '0',
                 'HF_HOME': str(tmp_path / 'cache')},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.stdout.splitlines() == ['0 + 1 1', '1 + 1 2', '2 + 1 3'], done.stderr
