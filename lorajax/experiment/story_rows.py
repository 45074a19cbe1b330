"""Where the rows of a run come from; stories that nobody has are told by the run's own models."""

import jax
from absl import logging

from lorajax.experiment import models
from lorajax.experiment.adapters import SIDES
from lorajax.experiment.config import Experiment
from lorajax.stories import sample
from lorajax.stories.tasks import DATASET, TASKS
from lorajax.tasks.data import DataSource

STORIES_PER_MODEL = 512
TOKENS_PER_STORY = 240  # at most: the smaller of the two published models reads 256


def source(experiment: Experiment) -> DataSource:
    """Returns the rows of a run's tasks.

    Story tasks of a run without a data directory read what its two models tell, as many stories of
    each. They are sampled once and stay in the run's directory.

    Raises:
      InputError: if a model cannot be used.
    """
    if experiment.data_dir or not set(experiment.tasks) & set(TASKS):
        return DataSource(experiment.data_dir or None)
    root = experiment.files.root
    if not (root / DATASET.name).exists():
        sample.write(root, _tell(experiment))
    return DataSource(str(root))


def _tell(experiment: Experiment) -> list[str]:
    """Samples stories from both models and keeps those that both tokenizers can write."""
    told: list[str] = []
    formats = []
    for index, side in enumerate(SIDES):
        name = experiment.source_model if side == 'source' else experiment.target_model
        model, chat_format = models.load(name, experiment, side)
        logging.info('%s tells %d stories', name, STORIES_PER_MODEL)
        key = jax.random.fold_in(jax.random.key(experiment.seed), index)
        told += sample.tell(model, chat_format, STORIES_PER_MODEL, TOKENS_PER_STORY, key)
        formats.append(chat_format)
    return [
        story
        for story in told
        if all(sample.can_write(chat_format, story) for chat_format in formats)
    ]
