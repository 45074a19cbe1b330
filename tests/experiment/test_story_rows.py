"""Story tasks read a data directory, or what the run's own models tell."""

import pathlib

import pytest

from lorajax.experiment import story_rows
from lorajax.experiment.config import Experiment
from lorajax.stories import sample
from lorajax.stories.tasks import DATASET
from lorajax.tasks.data import DataSource

MODELS = pathlib.Path(__file__).resolve().parents[3] / 'shared' / 'models'


def run(tmp_path, **options):
    return Experiment(
        workdir=str(tmp_path), anchors=('story_upper',), heldouts=('story_loud',), **options
    )


def test_a_data_directory_is_read_as_it_is(tmp_path):
    sample.write(tmp_path / 'data', ['One.', 'Two.', 'Three.'])
    experiment = run(tmp_path / 'run', data_dir=str(tmp_path / 'data'))
    assert len(story_rows.source(experiment).rows(DATASET, 'train')) == 2
    assert not (tmp_path / 'run').exists()


def test_other_tasks_need_no_stories(tmp_path):
    assert isinstance(story_rows.source(Experiment(workdir=str(tmp_path))), DataSource)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not MODELS.exists(), reason='needs the published story decoders')
def test_two_published_models_tell_the_stories_of_a_run_once(tmp_path, monkeypatch):
    monkeypatch.setattr(story_rows, 'STORIES_PER_MODEL', 6)
    monkeypatch.setattr(story_rows, 'TOKENS_PER_STORY', 24)
    experiment = run(
        tmp_path,
        source_model=str(MODELS / 'stories260K'),
        target_model=str(MODELS / 'babyllama-105'),
    )
    rows = story_rows.source(experiment).rows(DATASET, 'train')
    assert 4 <= len(rows) <= 8
    assert any(row['story'].startswith(('Once', 'One day')) for row in rows)
    monkeypatch.setattr(story_rows, '_tell', None)  # not asked again
    assert story_rows.source(experiment).rows(DATASET, 'train') == rows
