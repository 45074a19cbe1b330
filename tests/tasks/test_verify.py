"""References score 1: on invented rows always, on the real ones where they are."""

import pathlib

import pytest

from benchmarks import references
from lorajax.tasks import data, overlap, registry, verify
from lorajax.tasks.data import DataSource
from tests.tasks import small_data

REAL = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
needs_rows = pytest.mark.skipif(not REAL.exists(), reason=f'no rows in {REAL}')
ALL = tuple(registry.TASKS.values())
TEXT_TASKS = [task for task in ALL if task.scorer != 'code']


def test_invented_rows(tmp_path):
    small_data.write(tmp_path)
    source = DataSource(str(tmp_path))
    found = verify.verify_references(ALL, source)
    programs = [registry.get(name) for name in ('mbpp_plus', 'humaneval')]
    found |= verify.verify_references(programs, source, allow_code_execution=True)
    assert set(found) == set(registry.TASKS)
    for name, row in found.items():
        assert row['correct'] == row['items'] > 0 == row['empty_correct'], (name, row)


def test_wrong_references_and_missing_data_are_reported(tmp_path, capsys):
    small_data.write(tmp_path)
    path = tmp_path / 'mbpp/test.jsonl'
    path.write_text(path.read_text().replace('n + 11 for', 'n - 11 for'))
    (tmp_path / 'gsm8k/train.jsonl').unlink()
    status = references.main(
        [f'--data_dir={tmp_path}', '--allow_code_execution', 'mbpp_test_held', 'gsm8k']
    )
    printed = capsys.readouterr().out
    assert status == 1 and 'reference correct 69/70' in printed and '(mbpp/11)' in printed
    assert 'gsm8k/train.jsonl: no such file' in printed


@needs_rows
@pytest.mark.slow
def test_real_text_tasks():
    found = verify.verify_references(TEXT_TASKS, DataSource(str(REAL)))
    for name, row in found.items():
        if 'missing' in row:
            assert name.startswith('math_')
        else:
            assert row['correct'] == row['items'] and row['empty_correct'] == 0, name


@needs_rows
@pytest.mark.slow
def test_real_rows_of_the_recipe():
    anchors = [task for task in ALL if task.role == 'anchor' and not task.name.startswith('math_')]
    heldouts = [task for task in ALL if task.role == 'heldout']
    source = DataSource(str(REAL))
    drawn = data.draw(anchors, heldouts, source, 1500, 300, 0)
    found = overlap.matrix(drawn)
    overlap.check(found)
    assert all(size == 300 for size in found['eval'].values())
    assert all(size >= 70 for size in found['train'].values())
    for prior in found['labels_only_prior'].values():
        assert abs(prior['accuracy'] - prior['chance']) < 0.075  # 3 standard errors at n = 300
    raw = overlap.matrix(data.draw_raw(anchors, heldouts, source, 300, 0))
    assert raw['cells']['gsm_hard']['gsm8k_test_500']['id'] > 250  # as the order differs


@needs_rows
def test_gsm_hard_rows_quote_the_gsm8k_problem_they_are():
    source = DataSource(str(REAL))
    easy = {i for e in registry.get('gsm8k').pools(source, 'direct').eval for i in e.problem_ids}
    hard = registry.get('gsm_hard').pools(source, 'direct').eval
    matched = [example for example in hard if set(example.problem_ids) & easy]
    assert len(hard) == 1319 and len(matched) >= 1317
