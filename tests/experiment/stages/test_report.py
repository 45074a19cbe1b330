"""Results and report come from stored files, are made once, and are made again when lost."""

import json
import os
import shutil

import pytest

from lorajax import io
from lorajax.errors import InputError
from lorajax.experiment.stages import report as stage
from tests.fake_run import make_fake_run


def test_results_hold_every_method_of_the_run(toy_run):
    results = json.loads(toy_run.files.results.read_text())
    (row,) = results['experiment1']['rows']
    assert set(row['correct']) == {'base', 'mean', 'matched_ridge', 'distilled', 'oracle'}
    assert results['experiment1']['selected_method'] == 'matched_ridge'
    assert row['domain'] == 'code' and set(results['diagnostics']) >= {'mean', 'matched_ridge'}


@pytest.mark.parametrize('name', ['results.json', 'report/ROUND4_REPORT.md'])
def test_what_is_lost_is_made_again_the_same(copied_run, name):
    path = copied_run.files.root / name
    before = path.read_text()
    assert not stage.write_report(copied_run)
    path.unlink()
    assert stage.write_report(copied_run) and path.read_text() == before
    assert not stage.write_report(copied_run)


def test_newer_outcomes_make_a_new_report(copied_run):
    (task,) = copied_run.heldouts
    later = copied_run.files.report_text.stat().st_mtime_ns + 10**9
    os.utime(copied_run.files.outcomes(task), ns=(later, later))
    assert stage.write_report(copied_run)


def test_missing_outcomes_name_the_stage_that_makes_them(copied_run):
    (task,) = copied_run.heldouts
    copied_run.files.outcomes(task).unlink()
    with pytest.raises(InputError, match='run the stage evaluate first'):
        stage.write_report(copied_run)


@pytest.fixture
def small(tmp_path):
    """A made-up run and its files."""
    run = make_fake_run(n=12)
    return run, run.write(tmp_path)


def test_files_give_what_the_values_in_them_give(small, tmp_path):
    run, files = small
    stage.rebuild_report(files)
    assert io.read_json(files.results) == run.results()
    run.write_report(tmp_path / 'values')
    for path in (tmp_path / 'values').glob('*.png'):
        assert (files.report / path.name).read_bytes() == path.read_bytes(), path.name
    assert {p.name for p in files.report.iterdir()} == {
        path.name for path in (tmp_path / 'values').iterdir()
    }


def test_same_files_give_the_same_report(small):
    _, files = small
    stage.rebuild_report(files)
    first = {path: path.read_bytes() for path in [files.results, *files.report.iterdir()]}
    shutil.rmtree(files.report)
    files.results.unlink()
    stage.rebuild_report(files)
    assert {path: path.read_bytes() for path in [files.results, *files.report.iterdir()]} == first


def test_the_selected_method_stands_in_selection_json(small):
    _, files = small
    io.write_json(files.selection, {'selected_method': 'global_ridge'})
    stage.rebuild_report(files)
    assert io.read_json(files.results)['experiment1']['selected_method'] == 'global_ridge'
    files.selection.unlink()
    stage.rebuild_report(files)
    assert io.read_json(files.results)['experiment1']['selected_method'] is None


def test_a_bare_run_still_gets_a_report(small):
    _, files = small
    for directory in (
        files.root / 'mappings',
        files.root / 'data',
        files.all_outcomes / 'experiment2',
    ):
        shutil.rmtree(directory)
    files.metrics.unlink()
    stage.rebuild_report(files)
    assert not io.read_json(files.results)['experiment2']['run']
    assert not (files.report / 'loss.png').exists()


@pytest.mark.parametrize('name', ['outcomes/gsm_hard', 'outcomes/experiment2/gsm_hard'])
def test_a_flipped_verdict_stops_the_report(small, name):
    _, files = small
    path = files.root / f'{name}.jsonl'
    path.write_text(path.read_text().replace('"correct": false', '"correct": true ', 1))
    with pytest.raises(InputError, match=r'gsm_hard\.jsonl: corrupt: its SHA-256'):
        stage.rebuild_report(files)
    assert not files.results.exists() and not files.report.exists()


def test_missing_files_and_a_config_of_something_else_are_named(small):
    _, files = small
    files.outcomes('mbpp_plus').unlink()
    files.outcomes('mbpp_plus').with_suffix('.jsonl.sha256').unlink()
    with pytest.raises(InputError, match=r'outcomes/mbpp_plus\.jsonl: no such file'):
        stage.rebuild_report(files)
    for content in ({'heldouts': []}, {'heldouts': ['../x']}, [], None):
        io.write_json(files.config, content)
        with pytest.raises(InputError, match=r'config\.json: (holds|heldouts)'):
            stage.rebuild_report(files)
    files.config.unlink()
    with pytest.raises(InputError, match=r'config\.json: no such file'):
        stage.rebuild_report(files)
    assert not files.report.exists()
