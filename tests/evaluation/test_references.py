"""References beside the methods: what bounds a translation."""

import pytest

from lorajax.evaluation import references, results
from lorajax.io import read_json, read_jsonl, write_json, write_jsonl
from lorajax.report import write
from tests.fake_run import write_fake_run


def test_shares_are_pooled_over_items_and_cosines_kept():
    answers = {
        'one': {'base': [0, 0, 0, 0], 'placebo': [1, 0, 0, 0], 'repeated': [1, 1, 1, 0],
                'oracle': [1, 1, 1, 1]},
        'two': {'base': [0, 0, 1, 0], 'placebo': [0, 0, 1, 0], 'repeated': [1, 1, 1, 1],
                'oracle': [1, 1, 1, 1]},
    }  # fmt: skip
    losses = {
        task: {m: [2.0 - sum(v) / 4] * 4 for m, v in methods.items()}
        for task, methods in answers.items()
    }
    clusters = {task: [f'{task}{i}' for i in range(4)] for task in answers}
    found = references.summary(answers, losses, clusters, {'one': {'repeated': 0.9}})
    assert found['run']
    assert list(found['methods']) == ['placebo', 'repeated']
    assert found['methods']['placebo']['gap_recovered'][0] == pytest.approx(1 / 7)
    assert found['methods']['repeated']['gap_recovered'][0] == pytest.approx(6 / 7)
    assert found['methods']['repeated']['accuracy'] == {'one': 0.75, 'two': 1.0}
    assert found['methods']['placebo']['nll_gap_recovered'][0] == pytest.approx(0.25 / 1.75)
    assert found['cosines'] == {'one': {'repeated': 0.9}}


def test_a_run_without_bounds_says_so():
    answers = {'one': {'base': [0, 0], 'oracle': [1, 1]}}
    assert not references.summary(answers, answers, {'one': ['a', 'b']}, {})['run']


def test_bounds_stand_apart_from_the_methods_of_a_run(tmp_path):
    run = write_fake_run(tmp_path, n=12, experiments=False)
    before = results.build(run)
    assert not before['bounds']['run']
    tasks = read_json(run.config)['heldouts']
    for task in tasks:
        path = run.outcomes(task)
        rows = read_jsonl(path)
        again = [{**row, 'method': 'repeated'} for row in rows if row['method'] == 'oracle']
        write_jsonl(path, rows + again)
    write_json(run.cosines, {task: {'mean': 0.1, 'repeated': 0.95} for task in tasks})
    after = results.build(run)
    assert after['experiment1'] == before['experiment1']
    assert after['bounds']['methods']['repeated']['gap_recovered'][0] == 1.0
    write.write(run)
    text = (run.report / 'ROUND4_REPORT.md').read_text()
    section = text.split('## What bounds a translation')[1].split('\n## ')[0]
    assert '| repeated | 1.000 [1.000, 1.000]' in section and '0.950' in section
