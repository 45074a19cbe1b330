"""The report is made again from a run's files."""

import json
import shutil

import pytest

from lorajax.errors import InputError
from tests.commands.command_line import run


def test_the_report_of_a_run_is_the_same_again(fake_run, tmp_path):
    shutil.copytree(fake_run.root, tmp_path / 'run')
    for name in ('results.json', 'report/ROUND4_REPORT.md'):
        (tmp_path / 'run' / name).unlink()
    run('report', f'--workdir={tmp_path}/run')
    for name in ('results.json', 'report/ROUND4_REPORT.md', 'report/report.html'):
        assert (tmp_path / 'run' / name).read_text() == (fake_run.root / name).read_text()


@pytest.mark.parametrize('config', [None, [], {'heldouts': ['../../etc']}, {'heldouts': []}])
def test_a_directory_that_is_no_run_is_refused(tmp_path, config):
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(InputError, match=r'config.json: expected the settings of a run'):
        run('report', f'--workdir={tmp_path}')
    assert not (tmp_path / 'results.json').exists()
