"""References beside the methods: what bounds a translation."""

import pytest

from lorajax import report
from lorajax.evaluation import references, results
from tests.fake_run import make_fake_run


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
    summary = references.summary(answers, losses, clusters, {'one': {'repeated': 0.9}})
    assert summary['run']
    assert list(summary['methods']) == ['placebo', 'repeated']
    assert summary['methods']['placebo']['gap_recovered'][0] == pytest.approx(1 / 7)
    assert summary['methods']['repeated']['gap_recovered'][0] == pytest.approx(6 / 7)
    assert summary['methods']['repeated']['accuracy'] == {'one': 0.75, 'two': 1.0}
    assert summary['methods']['placebo']['nll_gap_recovered'][0] == pytest.approx(0.25 / 1.75)
    assert summary['cosines'] == {'one': {'repeated': 0.9}}


def test_a_run_without_references_says_so():
    answers = {'one': {'base': [0, 0], 'oracle': [1, 1]}}
    assert not references.summary(answers, answers, {'one': ['a', 'b']}, {})['run']


def test_references_stand_apart_from_the_methods_of_a_run(tmp_path):
    run = make_fake_run(n=12, experiments=False)
    before = run.results()
    assert not before['references']['run']
    for rows in run.outcomes.values():
        rows += [{**row, 'method': 'repeated'} for row in rows if row['method'] == 'oracle']
    cosines = {task: {'mean': 0.1, 'repeated': 0.95} for task in run.outcomes}
    after = results.build(
        run.config, run.tables, eval_items=run.eval_items, diagnostics=run.diagnostics,
        cosines=cosines, selected_method=run.selected_method,
    )  # fmt: skip
    assert after['experiment1'] == before['experiment1']
    assert after['references']['methods']['repeated']['gap_recovered'][0] == 1.0
    assert after['references']['cosines'] == cosines
    report.write(tmp_path, after, run.config)
    text = (tmp_path / 'ROUND4_REPORT.md').read_text()
    section = text.split('## What bounds a translation')[1].split('\n## ')[0]
    assert '| repeated | 1.000 [1.000, 1.000]' in section and '0.950' in section
