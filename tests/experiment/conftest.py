"""Runs that the tests of the experiment begin with."""

import pytest

from lorajax.experiment.config import Experiment
from tests.tasks import small_data


@pytest.fixture
def experiment(tmp_path):
    """A valid, small experiment over the toy models and real data formats; one stage of it."""
    small_data.write(tmp_path / 'data')
    return Experiment(
        workdir=str(tmp_path / 'run'), data_dir=str(tmp_path / 'data'), stages=('prepare',),
        anchors=('gsm8k', 'arc_easy'), heldouts=('arc_challenge',), train_per_task=4,
        eval_per_task=4, mesh=(1, 1, 1),
    )  # fmt: skip
