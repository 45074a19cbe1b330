"""Which examples each adapter sees at each step, and how fast it learns from them."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from lorajax.rng import generator
from lorajax.tasks.chat import Encoded
from lorajax.training.config import TrainConfig
from lorajax.training.optimizer import learning_rates
from lorajax.training.packing import Layout, Pack, Shape, choose_shapes, length_of, make_layout


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
      num_shards: parts of the mesh's batch axes.
      pad_id: token that fills.
      program_tokens: see `packing.choose_shapes`.
      piece_tokens: see `packing.make_layout`.
    """

    examples: Mapping[str, Sequence[Encoded]]
    config: TrainConfig
    num_shards: int
    pad_id: int
    program_tokens: float = 0.0
    piece_tokens: float = np.inf

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
    def layout(self) -> Layout:
        """How the examples of every step are laid out."""
        lengths = [length_of(row) for rows in self.examples.values() for row in rows]
        return make_layout(
            self.num_shards,
            len(self.examples),
            np.array(lengths),
            self.config.batch_size,
            self.piece_tokens,
        )

    @functools.cached_property
    def shapes(self) -> list[Shape]:
        """The shape of every step."""
        sizes = [
            np.array([(length_of(row), len(row.targets)) for row in rows])
            for rows in self.examples.values()
        ]
        needs = []
        for step in range(len(self.rates)):
            chosen = [
                of_task[order] for of_task, order in zip(sizes, self._orders(step), strict=True)
            ]
            lengths, targets = zip(*(rows.T for rows in chosen), strict=True)
            needs.append(self.layout.need(lengths, targets))
        return choose_shapes(needs, self.layout, self.program_tokens)

    def is_active(self, step: int) -> np.ndarray:
        """Returns bool[A], which adapters are still trained at a step."""
        return step < self.num_steps

    def rows(self, task: str, step: int) -> list[Encoded]:
        """Returns the examples of one adapter at one step, from seed, task and step alone."""
        return [self.examples[task][i] for i in self._order(task, step)]

    def pack(self, step: int) -> Pack:
        """Returns the examples of a step, in its shape; ended adapters have none."""
        orders = zip(self.examples.values(), self._orders(step), strict=True)
        chosen = [[rows[i] for i in order] for rows, order in orders]
        return self.layout.pack(chosen, self.shapes[step], self.pad_id)

    def _orders(self, step: int) -> list[np.ndarray]:
        """Returns which examples each adapter sees at a step; none once it has ended."""
        return [
            self._order(task, step) if is_active else np.zeros(0, np.int64)
            for task, is_active in zip(self.examples, self.is_active(step), strict=True)
        ]

    def _order(self, task: str, step: int) -> np.ndarray:
        """Returns int64[rows], which examples a task sees at a step."""
        count, size = len(self.examples[task]), self.config.batch_size
        epoch, index = divmod(step, math.ceil(count / size))
        names = ('order', task, epoch) + (
            ('repeat', self.config.repeat) if self.config.repeat else ()
        )
        return _order(self.config.seed, names, count)[index * size : (index + 1) * size]
