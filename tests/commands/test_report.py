"""The report is made again from a run's files."""

import json

import pytest

from lorajax.errors import InputError
from tests.commands.command_line import run


def test_results_and_report_come_from_the_files_of_a_run(fake_run, tmp_path):
    files = fake_run.write(tmp_path / 'run')
    fake_run.write_report(tmp_path / 'expected')
    run('report', f'--workdir={tmp_path}/run')
    assert json.loads(files.results.read_text()) == json.loads(json.dumps(fake_run.results()))
    expected = tmp_path / 'expected' / files.report_text.name
    # Files come in the order of their names, methods of the made-up run in one of their own.
    assert sorted(files.report_text.read_text().splitlines()) == sorted(
        expected.read_text().splitlines()
    )


@pytest.mark.parametrize('config', [None, [], {'heldouts': ['../../etc']}, {'heldouts': []}])
def test_a_directory_that_is_no_run_is_refused(tmp_path, config):
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(InputError, match=r'config.json: (holds|heldouts)'):
        run('report', f'--workdir={tmp_path}')
    assert not (tmp_path / 'results.json').exists()
