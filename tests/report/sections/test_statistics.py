"""Intervals, paired tests and losses in words and tables."""

import pytest

from lorajax.evaluation import stats
from lorajax.report.document import Document, Table
from lorajax.report.markdown import to_markdown
from lorajax.report.sections import statistics
from tests.report.seed_results import seed_results


def _table(section, index=0):
    return [block for block in section.blocks if isinstance(block, Table)][index]


def test_primary_sentence_without_a_number():
    results = seed_results()
    assert 'no method was fixed' in statistics.primary_sentence(results)
    counts = {'t': {'n': 9, 'base': 1, 'x': 1, 'oracle': 1}}
    results['experiment1'] = stats.experiment1(counts, selected_method='x')
    assert 'no held-out is usable' in statistics.primary_sentence(results)


def test_the_method_fixed_beforehand_comes_first(fake_results):
    part = fake_results['experiment1']
    table = _table(statistics.primary(fake_results))
    assert table.rows[0][:3] == ['delta_ridge', True, part['pooled_gap_recovered']['delta_ridge']]
    assert {row[0] for row in table.rows} == set(part['pooled_gap_recovered'])
    assert table.columns[-1].name == 'needs' and table.rows[0][-1] == 'adapters'
    text = to_markdown(Document('', [], [statistics.primary(fake_results)]))
    value, low, high = part['pooled_gap_recovered']['delta_ridge']
    assert f'recovers {value:.3f} (95 % interval {low:.3f} to {high:.3f})' in text


def test_every_count_is_printed_with_its_interval(fake_results):
    rows = fake_results['experiment1']['rows']
    table = _table(statistics.counts(fake_results), 1)
    assert len(table.rows) == sum(len(row['correct']) for row in rows)
    task, method, correct, n, accuracy, _ = table.rows[0]
    assert (task, method, n) == ('gsm_hard', 'base', 60)
    assert accuracy[0] == correct / n and accuracy[1] < accuracy[0] < accuracy[2]


def test_paired_tests_and_losses_need_the_answers(fake_results):
    assert statistics.paired(seed_results()) is None
    assert statistics.loss(seed_results()) is None
    tests = _table(statistics.paired(fake_results))
    first = fake_results['experiment1']['rows'][0]
    assert tests.rows[0][:3] == ['gsm_hard', 'mean', 'base']
    assert tests.rows[0][-1] == first['mcnemar']['mean']['base']['p_value']
    losses = _table(statistics.loss(fake_results))
    assert losses.rows[0][1] == pytest.approx(first['nll']['base'])


def test_scoring_details_are_shares(fake_results):
    assert statistics.scoring(seed_results()) is None
    table = _table(statistics.scoring(fake_results))
    assert table.rows[1][:2] == ['gsm_hard', 'truncated']
    assert all(0 <= share <= 1 for row in table.rows for share in row[2:])
