"""results.json from plain values, and the messages about values that do not fit."""

import json

import pytest

from lorajax.errors import InputError
from lorajax.evaluation import results
from tests.fake_run import HELDOUTS, METHODS, make_fake_run


@pytest.fixture
def small():
    """A small run without experiments 2 and 3, to be changed."""
    return make_fake_run(n=12, experiments=False)


def test_schema(fake_results):
    assert list(fake_results) == [
        'schema',
        'source_model',
        'target_model',
        'experiment1',
        'topk',
        'experiment2',
        'experiment3',
        'references',
        'source',
        'diagnostics',
    ]
    assert fake_results['schema'] == 1
    rows = fake_results['experiment1']['rows']
    assert [row['task'] for row in rows] == list(HELDOUTS)
    for row in rows:
        assert list(row['correct']) == ['base', *METHODS, 'oracle']
        assert row['domain'] == HELDOUTS[row['task']]
        assert row['n'] == (59 if row['task'] == 'arc_challenge' else 60)
    assert fake_results['experiment1']['selected_method'] == 'delta_ridge'
    assert fake_results['experiment2']['run'] and fake_results['experiment3']['run']


def test_deterministic(fake_run, fake_results):
    assert json.dumps(fake_run.results()) == json.dumps(fake_results)


def test_order_of_rows_in_a_file_does_not_matter(small):
    first = small.results()
    rows = small.outcomes['mbpp_plus']
    base = [row for row in rows if row['method'] == 'base']
    small.outcomes['mbpp_plus'] = base + [r for r in reversed(rows) if r['method'] != 'base']
    assert small.results() == first


def test_durations_are_left_out_of_diagnostics(fake_results):
    values = fake_results['diagnostics']['delta_ridge']
    assert 'fit_seconds' not in values and values['loo_r2'] == 0.21
    names = ['time', 'fit_time', 'seconds', 'wall_s', 'elapsed', 'ms', 'timestamp']
    kept = {'steps': 1, 'loo_r2_by_anchor': [1], 'sometimes': 2, 'scale': 3}
    assert results._without_timing({**dict.fromkeys(names, 1), **kept}) == kept


def test_diagnostics_must_be_objects(small):
    small.diagnostics['mean'] = [1]
    with pytest.raises(InputError, match='diagnostics of mean: expected a JSON object'):
        small.results()


def test_topk_log_comes_from_the_reports_of_predictions(small):
    assert small.results()['topk']['topk8_global_ridge']['gsm_hard'][0] == 'math_counting_easy'
    reports = {task: {'selected': ['a', 'b'], 'weights': {}} for task in HELDOUTS}
    small.diagnostics['topk8_global_ridge'] = {'predictions': reports}
    assert small.results()['topk'] == {
        'topk8_global_ridge': {task: ['a', 'b'] for task in HELDOUTS}
    }


def test_the_selected_method_must_be_one_that_was_scored(small):
    assert small.results()['experiment1']['selected_method'] == 'delta_ridge'
    small.selected_method = None
    assert small.results()['experiment1']['selected_method'] is None
    small.selected_method = 'nobody'
    with pytest.raises(InputError, match="selected_method: 'nobody' has no outcomes"):
        small.results()


def test_not_run(small):
    results_of_one = small.results()
    assert results_of_one['experiment2'] == {'run': False, 'cells': []}
    assert not results_of_one['experiment3']['run']


def test_tasks_with_common_problem_ids_are_linked(small):
    linked = small.results()['experiment1']['bootstrap']['linked_tasks']
    assert [sorted(tasks) for tasks in linked] == [['gsm8k_test_500', 'gsm_hard']]


def test_twins_are_left_out_of_a_second_pool(small):
    assert 'without_twins' not in small.results()['experiment1']
    small.config['twins'] = {'gsm8k_test_500': ['gsm8k'], 'elsewhere': ['gsm8k']}
    part = small.results()['experiment1']
    assert part['without_twins']['twins'] == {'gsm8k_test_500': ['gsm8k']}
    del small.outcomes['gsm8k_test_500']
    small.config['heldouts'].remove('gsm8k_test_500')
    rest = small.results()['experiment1']['pooled_gap_recovered']
    assert part['without_twins']['pooled_gap_recovered'] == rest != part['pooled_gap_recovered']


def test_ablations_resample_the_problems_that_experiment_1_resamples(fake_run, fake_results):
    apart = make_fake_run(n=60)
    for rows in apart.eval_items.values():
        for row in rows:
            row['problem_ids'] = []
    other = apart.results()
    for name in ('experiment2', 'experiment3'):
        linked, alone = fake_results[name]['cells'], other[name]['cells']
        assert [c['gap_recovered'][0] for c in linked] == [c['gap_recovered'][0] for c in alone]
        # Cells with both GSM tasks, whose items are the same problems, where the gap is wide
        # enough for an interval.
        both = [
            (one['gap_recovered'], two['gap_recovered'])
            for one, two in zip(linked, alone, strict=True)
            if one.get('domain', 'math') == 'math' and one['gap_recovered'][1] is not None
        ]
        assert sum(one != two for one, two in both) > len(both) / 2


def test_details_become_rates(small):
    for index, row in enumerate(small.outcomes['gsm_hard']):
        row['details'] = {
            'strict': index % 2 == 0,
            'parsed': None if row['method'] == 'base' else '7',
            'by': 'proxy' if index % 3 else 'tests',
            'text': f'{index}',
            'number': 4,
        }
    details = small.results()['experiment1']['rows'][0]['details']
    assert set(details) == {'strict', 'parsed', 'by=proxy', 'by=tests'}
    assert details['strict']['base'] == 0.5
    assert details['parsed']['base'] == 0.0 and details['parsed']['oracle'] == 1.0
    assert details['by=proxy']['mean'] == pytest.approx(2 / 3)


@pytest.mark.parametrize('value', [None, float('nan'), float('inf')])
def test_a_loss_that_is_no_number_drops_that_method_only_and_is_counted(small, value):
    rows = [row for row in small.outcomes['gsm_hard'] if row['method'] == 'mean']
    rows[0]['nll'] = rows[5]['nll'] = value
    first, *others = small.results()['experiment1']['rows']
    assert 'mean' not in first['nll'] and 'global_ridge' in first['nll']
    assert first['nll_undefined'] == {'mean': 2}
    assert all(row['nll_undefined'] == {} and 'mean' in row['nll'] for row in others)
