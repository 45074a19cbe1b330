"""results.json from the files of a run, and the messages about broken ones."""

import json

import pytest

from lorajax.errors import InputError
from lorajax.evaluation import results
from lorajax.io import read_json, read_jsonl, write_json, write_jsonl
from tests.fake_run import HELDOUTS, METHODS, write_fake_run


@pytest.fixture
def small(tmp_path):
    """A small run without experiments 2 and 3."""
    return write_fake_run(tmp_path, n=12, experiments=False)


def test_schema(found):
    assert list(found) == [
        'schema',
        'source_model',
        'target_model',
        'experiment1',
        'topk',
        'experiment2',
        'experiment3',
        'bounds',
        'diagnostics',
    ]
    assert found['schema'] == 1
    rows = found['experiment1']['rows']
    assert [row['task'] for row in rows] == list(HELDOUTS)
    for row in rows:
        assert list(row['correct']) == ['base', *METHODS, 'oracle']
        assert row['domain'] == HELDOUTS[row['task']]
        assert row['n'] == (59 if row['task'] == 'arc_challenge' else 60)
    assert found['experiment1']['selected_method'] == 'delta_ridge'
    assert found['experiment2']['run'] and found['experiment3']['run']


def test_deterministic(fake_run, found):
    assert json.dumps(results.build(fake_run)) == json.dumps(found)


def test_order_of_rows_in_a_file_does_not_matter(small):
    first = results.build(small)
    path = small.outcomes('mbpp_plus')
    rows = read_jsonl(path)
    base = [row for row in rows if row['method'] == 'base']
    others = [row for row in reversed(rows) if row['method'] != 'base']
    write_jsonl(path, base + others)
    assert results.build(small) == first


def test_durations_are_left_out_of_diagnostics(found):
    values = found['diagnostics']['delta_ridge']
    assert 'fit_seconds' not in values and values['loo_r2'] == 0.21
    names = ['time', 'fit_time', 'seconds', 'wall_s', 'elapsed', 'ms', 'timestamp']
    kept = {'steps': 1, 'loo_r2_by_anchor': [1], 'sometimes': 2, 'scale': 3}
    assert results._without_timing({**dict.fromkeys(names, 1), **kept}) == kept


def test_topk_log_from_either_place(small):
    assert results.build(small)['topk']['topk8_global_ridge']['gsm_hard'][0] == 'math_counting_easy'
    path = small.mapping('topk8_global_ridge') / 'diagnostics.json'
    reports = {task: {'selected': ['a', 'b'], 'weights': {}} for task in HELDOUTS}
    write_json(path, {'predictions': reports})
    assert results.build(small)['topk'] == {
        'topk8_global_ridge': {task: ['a', 'b'] for task in HELDOUTS}
    }


def test_selected_method_may_stand_in_selection_json(small):
    config = read_json(small.config)
    write_json(small.config, config | {'selected_method': None})
    assert results.build(small)['experiment1']['selected_method'] is None
    write_json(small.selection, {'selected_method': 'global_ridge'})
    assert results.build(small)['experiment1']['selected_method'] == 'global_ridge'


def test_not_run(small):
    found = results.build(small)
    assert found['experiment2'] == {'run': False, 'cells': []}
    assert not found['experiment3']['run']


def test_tasks_with_common_problem_ids_are_linked(small):
    linked = results.build(small)['experiment1']['bootstrap']['linked_tasks']
    assert [sorted(tasks) for tasks in linked] == [['gsm8k_test_500', 'gsm_hard']]


def test_details_become_rates(small):
    rows = read_jsonl(small.outcomes('gsm_hard'))
    for index, row in enumerate(rows):
        row['details'] = {
            'strict': index % 2 == 0,
            'parsed': None if row['method'] == 'base' else '7',
            'by': 'proxy' if index % 3 else 'tests',
            'text': f'{index}',
            'number': 4,
        }
    write_jsonl(small.outcomes('gsm_hard'), rows)
    details = results.build(small)['experiment1']['rows'][0]['details']
    assert set(details) == {'strict', 'parsed', 'by=proxy', 'by=tests'}
    assert details['strict']['base'] == 0.5
    assert details['parsed']['base'] == 0.0 and details['parsed']['oracle'] == 1.0
    assert details['by=proxy']['mean'] == pytest.approx(2 / 3)


def test_a_null_loss_drops_that_method_only(small):
    rows = read_jsonl(small.outcomes('gsm_hard'))
    next(row for row in rows if row['method'] == 'mean')['nll'] = None
    write_jsonl(small.outcomes('gsm_hard'), rows)
    row = results.build(small)['experiment1']['rows'][0]
    assert 'mean' not in row['nll'] and 'global_ridge' in row['nll']


def _drop(rows):
    del rows[-1]


def _repeat(rows):
    rows.append(rows[0])


def _no_oracle(rows):
    rows[:] = [row for row in rows if row['method'] != 'oracle']


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (_drop, r"oracle and base answer different items \(11 and 12; 'gsm_hard/11'"),
        (_repeat, r"row 109 is a second answer of base to 'gsm_hard/0'"),
        (_no_oracle, r'no rows of oracle, expected base and oracle'),
        (lambda rows: rows[3].pop('method'), r"row 4 has no 'method'"),
        (lambda rows: rows[3].update(task='other'), r"row 4 is of task 'other'"),
        (lambda rows: rows[3].update(correct='yes'), r"row 4 has correct = 'yes'"),
        (lambda rows: rows.insert(0, 7), r'row 1 is not a JSON object'),
    ],
)
def test_damaged_outcomes_name_file_and_row(small, damage, message):
    path = small.outcomes('gsm_hard')
    rows = read_jsonl(path)
    damage(rows)
    write_jsonl(path, rows)
    with pytest.raises(InputError, match=message) as caught:
        results.build(small)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_missing_files_and_bad_config(small):
    small.outcomes('mbpp_plus').unlink()
    with pytest.raises(InputError, match=r'outcomes/mbpp_plus.jsonl: no such file'):
        results.build(small)
    write_json(small.config, {'heldouts': []})
    with pytest.raises(InputError, match=r'heldouts = \[\], expected a list of tasks'):
        results.build(small)
    small.config.unlink()
    with pytest.raises(InputError, match=r'config.json: no such file'):
        results.build(small)
