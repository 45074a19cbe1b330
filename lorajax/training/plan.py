"""Which examples each adapter sees at each step, and how fast it learns from them."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lorajax.models.attention import Blocking
from lorajax.rng import generator
from lorajax.tasks.chat import Encoded
from lorajax.training.config import TrainConfig
from lorajax.training.optimizer import learning_rates
from lorajax.training.packing import Layout, Pack, Shape, choose_shapes, length_of, make_layout
from lorajax.training.slots import Slots, assign


@functools.lru_cache(maxsize=1024)  # the epoch under way of every adapter
def _epoch_order(seed: int, names: tuple[str | int, ...], count: int) -> np.ndarray:
    """Returns int64[count], the order of the examples in one epoch."""
    return generator(seed, *names).permutation(count)


@dataclasses.dataclass(frozen=True)
class TrainPlan:
    """The steps of a group of adapters that are trained together.

    A step depends on the fields and its number alone, so a resumed training sees what the
    undisturbed one would have seen.

    Attributes:
      examples: training examples by task, none empty; A tasks.
      config: the recipe of all, or of each by task.
      num_shards: parts of the mesh's batch axes.
      pad_id: token that fills.
      program_tokens: see `packing.choose_shapes`.
      piece_tokens: see `packing.make_layout`.
      num_slots: adapters of a step; all of them if 0. See `slots`.
      num_parts: of the mesh's axis of adapters. Each has as many places beside each other, and the
        rows of their examples.
    """

    examples: Mapping[str, Sequence[Encoded]]
    config: TrainConfig | Mapping[str, TrainConfig]
    num_shards: int
    pad_id: int
    program_tokens: float = 0.0
    piece_tokens: float = np.inf
    num_slots: int = 0
    num_parts: int = 1

    @functools.cached_property
    def configs(self) -> list[TrainConfig]:
        """The recipe of each of the A tasks."""
        if isinstance(self.config, TrainConfig):
            return [self.config] * len(self.examples)
        return [self.config[task] for task in self.examples]

    @functools.cached_property
    def num_steps(self) -> np.ndarray:
        """int64[A], steps of each adapter."""
        counts = []
        for config, rows in zip(self.configs, self.examples.values(), strict=True):
            per_epoch = math.ceil(len(rows) / config.batch_size)
            counts.append(max(1, round(per_epoch * config.num_epochs)))
        return np.array(counts)

    @functools.cached_property
    def slots(self) -> Slots:
        """Which adapter has which place of the stack, and when."""
        return assign(self.num_steps, self.num_slots, self.num_parts)

    @functools.cached_property
    def rates(self) -> np.ndarray:
        """float32[S, places], the learning rate in each place; 0 where nothing is trained."""
        rates = np.zeros(self.slots.occupants.shape, np.float32)
        for adapter, (config, count) in enumerate(zip(self.configs, self.num_steps, strict=True)):
            first = self.slots.first[adapter]
            place = rates[first : first + count, self.slots.slot[adapter]]
            place[:] = learning_rates(config, int(count))
        return rates

    def scales(self, step: int) -> np.ndarray:
        """Returns float32[places], alpha / rank of each adapter; 1 where nothing is trained."""
        found = [self.configs[a].scale if a >= 0 else 1.0 for a in self.slots.occupants[step]]
        return np.array(found, np.float32)

    @functools.cached_property
    def layout(self) -> Layout:
        """How the examples of every step are laid out, those of each part."""
        lengths = [length_of(row) for rows in self.examples.values() for row in rows]
        return make_layout(
            self.num_shards,
            self.slots.num_places // self.num_parts,
            np.array(lengths),
            max(config.batch_size for config in self.configs),
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
                sizes[adapter][order] if adapter >= 0 else np.zeros((0, 2), np.int64)
                for adapter, order in self._orders(step)
            ]
            of_parts = [
                self.layout.need(*zip(*(rows.T for rows in part), strict=True))
                for part in self._parts(chosen)
                if any(len(rows) for rows in part)
            ]
            needs.append(Shape(*map(max, zip(*of_parts, strict=True))))
        return choose_shapes(needs, self.layout, self.program_tokens)

    def blocking(self, step: int) -> Blocking:
        """Returns how the rows of a step are cut for attention."""
        return Blocking(self.layout.block, self.shapes[step].lookback)

    def rows(self, task: str, step: int) -> list[Encoded]:
        """Returns the examples of one adapter at one of its own steps.

        They follow from seed, name and step alone.
        """
        adapter = list(self.examples).index(task)
        return [self.examples[task][i] for i in self._order(adapter, step)]

    def pack(self, step: int) -> Pack:
        """Returns the examples of a step, in its shape; idle places have none."""
        rows = list(self.examples.values())
        chosen = [[rows[a][i] for i in order] for a, order in self._orders(step)]
        packs = [
            self.layout.pack(part, self.shapes[step], self.pad_id) for part in self._parts(chosen)
        ]
        return Pack(*map(np.concatenate, zip(*packs, strict=True)))

    def _parts(self, places: list[Any]) -> list[list[Any]]:
        """Cuts what is there for each place into the parts of the mesh."""
        size = len(places) // self.num_parts
        return [places[start : start + size] for start in range(0, len(places), size)]

    def _orders(self, step: int) -> list[tuple[int, np.ndarray]]:
        """Returns the adapter in each place, or -1, and which of its examples it sees at a step."""
        return [
            (adapter, self._order(adapter, step - self.slots.first[adapter]))
            if adapter >= 0
            else (-1, np.zeros(0, np.int64))
            for adapter in self.slots.occupants[step].tolist()
        ]

    def _order(self, adapter: int, step: int) -> np.ndarray:
        """Returns int64[rows], which examples an adapter sees at one of its own steps."""
        task, config = list(self.examples)[adapter], self.configs[adapter]
        count, size = len(self.examples[task]), config.batch_size
        epoch, index = divmod(int(step), math.ceil(count / size))
        names = ('order', config.data_order or task, epoch) + (
            ('repeat', config.repeat) if config.repeat else ()
        )
        return _epoch_order(config.seed, names, count)[index * size : (index + 1) * size]
