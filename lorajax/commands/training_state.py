"""What a training leaves beside its output while it works: `OUTPUT.state`.

OUTPUT.state/settings.json   what the training is, so that no other goes on with its state
OUTPUT.state/checkpoints/    the newest state
OUTPUT.state/metrics.jsonl   losses and speed; moved to OUTPUT in the end, as are
    OUTPUT.state/{tensorboard,wandb}   the same for those who look there
"""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import fields
from lorajax.tasks.chat import Encoded
from lorajax.training.trackers import TRACKERS
from lorajax.types import ReadOnlyJson


class TrainingState:
    """The files of one training that is not done.

    Attributes:
      output: directory of what it makes.
      directory: of its state.
      is_new: whether there was no state when this was made.
    """

    def __init__(self, output: pathlib.Path) -> None:
        """Looks whether there is a state beside `output`."""
        self.output = output
        self.directory = output.with_name(f'{output.name}.state')
        self.is_new = not self._settings.exists()

    @property
    def _settings(self) -> pathlib.Path:
        return self.directory / 'settings.json'

    @property
    def checkpoints(self) -> pathlib.Path:
        """Directory for `TrainCheckpoints`."""
        return self.directory / 'checkpoints'

    @property
    def metrics(self) -> pathlib.Path:
        """File for `MetricWriter`."""
        return self.directory / 'metrics.jsonl'

    def begin(self, settings: ReadOnlyJson) -> None:
        """Notes what the training is, or goes on with one that is the same.

        Args:
          settings: what its result depends on.

        Raises:
          InputError: naming the first setting that differs.
        """
        wanted = json.loads(json.dumps(settings))
        if self.is_new:
            io.write_json(self._settings, wanted)
            return
        known = fields.require_object(self._settings, io.read_json(self._settings))
        for name in wanted.keys() | known.keys():
            if known.get(name) != wanted.get(name):
                raise InputError(
                    f'{self.directory}: is of a training with other {name}; give that again, or '
                    'remove the directory'
                )

    def end(self) -> None:
        """Keeps the metrics beside the result and removes the rest."""
        self.output.mkdir(parents=True, exist_ok=True)
        if self.metrics.exists():
            with io.atomic_file(self.output / self.metrics.name) as partial:
                shutil.copyfile(self.metrics, partial)
        for name in TRACKERS:
            if (self.directory / name).exists():
                shutil.move(self.directory / name, self.output / name)
                logging.info('for %s: %s', name, self.output / name)
        shutil.rmtree(self.directory)


def hash_rows(rows: Sequence[Encoded]) -> str:
    """Returns a SHA-256 over the tokens of training rows, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        parts: list[Any] = [row.prompt, row.answer, row.targets]
        for part in parts:
            digest.update(np.asarray(part, np.int64).tobytes() + b'|')
    return digest.hexdigest()
