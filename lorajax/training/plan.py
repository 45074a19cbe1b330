"""Which examples each adapter sees at each step, and how fast it learns from them."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from lorajax.rng import generator
from lorajax.tasks.batching import Batch, bucket, make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.training.config import TrainConfig
from lorajax.training.optimizer import learning_rates


@functools.lru_cache(maxsize=1024)  # the epoch under way of every adapter
def _order(seed: int, names: tuple[str | int, ...], count: int) -> np.ndarray:
    """Returns int64[count], the order of the examples in one epoch."""
    return generator(seed, *names).permutation(count)


@dataclasses.dataclass(frozen=True)
class TrainPlan:
    """The steps of a group of adapters that are trained together.

    A step depends on the fields and its number alone, so a resumed training sees what the
    undisturbed one would have seen.

    Attributes:
      examples: training examples by task, none empty; A tasks.
      config: the recipe.
      num_rows: B, rows of a batch; at least `config.batch_size`, those behind it stay empty.
      pad_id: token that fills batches.
    """

    examples: Mapping[str, Sequence[Encoded]]
    config: TrainConfig
    num_rows: int
    pad_id: int

    @functools.cached_property
    def num_steps(self) -> np.ndarray:
        """int64[A], steps of each adapter."""
        size, epochs = self.config.batch_size, self.config.num_epochs
        per_epoch = [math.ceil(len(rows) / size) for rows in self.examples.values()]
        return np.array([max(1, round(count * epochs)) for count in per_epoch])

    @functools.cached_property
    def rates(self) -> np.ndarray:
        """float32[S, A], the learning rate of each adapter; 0 once its training has ended."""
        rates = np.zeros((self.num_steps.max(), len(self.examples)), np.float32)
        for adapter, count in enumerate(self.num_steps):
            rates[:count, adapter] = learning_rates(self.config, int(count))
        return rates

    @functools.cached_property
    def longest(self) -> tuple[int, int]:
        """Tokens of the longest example and targets of the longest answer."""
        return shape_of([row for rows in self.examples.values() for row in rows])

    def is_active(self, step: int) -> np.ndarray:
        """Returns bool[A], which adapters are still trained at a step."""
        return step < self.num_steps

    def rows(self, task: str, step: int) -> list[Encoded]:
        """Returns the examples of one adapter at one step, from seed, task and step alone."""
        examples, size = self.examples[task], self.config.batch_size
        epoch, index = divmod(step, math.ceil(len(examples) / size))
        names = ('order', task, epoch) + (
            ('repeat', self.config.repeat) if self.config.repeat else ()
        )
        order = _order(self.config.seed, names, len(examples))
        return [examples[i] for i in order[index * size : (index + 1) * size]]

    def batch(self, step: int) -> Batch:
        """Returns the stacked batch of a step, leaves [A, B, ...]; ended adapters get no rows."""
        chosen = [
            self.rows(task, step) if is_active else []
            for task, is_active in zip(self.examples, self.is_active(step), strict=True)
        ]
        shapes = zip(*[shape_of(rows) for rows in chosen], strict=True)
        # No shape need exceed the longest example of all.
        length, targets = (
            min(bucket(max(sizes)), most) for sizes, most in zip(shapes, self.longest, strict=True)
        )
        parts = [make_batch(rows, self.num_rows, length, targets, self.pad_id) for rows in chosen]
        return Batch(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))
