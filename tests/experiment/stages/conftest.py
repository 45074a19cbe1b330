"""One small run of the toy world for the tests of all stages."""

import dataclasses
import shutil

import pytest

from lorajax.experiment import pipeline
from lorajax.experiment.config import Experiment
from lorajax.toy import language
from tests.once import make_once

TASK = 'toy_code_keep_5'


@pytest.fixture(scope='session')
def toy_run(tmp_path_factory):
    """A run with three anchors and one held-out, done up to the report; not to be changed."""

    def run(directory):
        done = pipeline.run(dataclasses.replace(experiment, workdir=str(directory)))
        assert done == ['prepare', 'train', 'map', 'evaluate', 'report']

    experiment = Experiment(
        anchors=language.ANCHORS[4:7], heldouts=(TASK,),
        methods=('mean', 'matched_ridge', 'distilled'), train_per_task=64, num_epochs=8,
        batch_size=16, learning_rate=5e-3, eval_per_task=6, eval_batch_size=6,
        study_items=3, anchor_counts=(2, 3), anchor_draws=1, top_k_grid=(1,),
        scaling_methods=('global_ridge',), transfer_methods=('mean',), checkpoint_every=8,
    )  # fmt: skip
    directory = make_once(tmp_path_factory, 'toy_run', run)
    return dataclasses.replace(experiment, workdir=str(directory))


@pytest.fixture
def copied_run(toy_run, tmp_path):
    """A copy of it, to change. The models are where they were: they lie in the first."""
    shutil.copytree(toy_run.workdir, tmp_path / 'run')
    return dataclasses.replace(toy_run, workdir=str(tmp_path / 'run'))
