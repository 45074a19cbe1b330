"""Intervals, paired tests and losses in words and tables."""

import pytest

from lorajax.evaluation import stats
from lorajax.report.document import Table
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


def test_methods_stand_by_their_score_between_the_two_ends(fake_results):
    part = fake_results['experiment1']
    section = statistics.primary(fake_results)
    table, chart = _table(section), section.blocks[0]
    *methods, base, oracle = table.rows
    pooled = part['pooled_gap_recovered']
    assert {row[0] for row in methods} == set(pooled)
    scores = [row[1][0] for row in methods]
    assert scores == sorted(scores, reverse=True)
    assert (base[1], oracle[1]) == (0.0, 1.0) and base[2] < oracle[2]
    row = next(row for row in methods if row[0] == 'delta_ridge')
    assert row[1] == pooled['delta_ridge'] and row[4] == 'adapters'
    rows = [r for r in part['rows'] if r['usable']]
    assert row[2] == pytest.approx(sum(r['accuracy']['delta_ridge'] for r in rows) / len(rows))
    assert [bar.label for bar in chart.bars] == [row[0] for row in methods]
    assert {bar.label for bar in chart.bars if bar.kind == 'selected'} == {'delta_ridge'}
    assert chart.legend.keys() == {bar.kind for bar in chart.bars}
    value, low, high = pooled['delta_ridge']
    assert f'keeps {value:.3f} (95 % interval {low:.3f} to {high:.3f})' in (
        statistics.primary_sentence(fake_results)
    )


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
