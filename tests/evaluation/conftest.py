"""One made-up run and its report, shared by the tests that only read them."""

import pytest

from lorajax.evaluation import report, results
from lorajax.workdir import Workdir, read_json, write_json
from tests.evaluation.fake_run import write_fake_run


@pytest.fixture(scope='session')
def fake_run(tmp_path_factory) -> Workdir:
    """A run with everything in it, its results.json and its report."""
    workdir = write_fake_run(tmp_path_factory.mktemp('fake_run'), n=60)
    write_json(workdir.results, results.build(workdir))
    report.write(workdir)
    return workdir


@pytest.fixture(scope='session')
def found(fake_run) -> dict:
    """The content of its results.json."""
    return read_json(fake_run.results)
