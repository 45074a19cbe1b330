"""A part of the work of a stage, for one of several processes that never talk to each other."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from lorajax.errors import ArgumentError

_T = TypeVar('_T')


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of `num_shards` processes that divide the work of a stage.

    Attributes:
      num_shards: processes in all.
      shard_index: which of them this is, from 0 on.

    Raises:
      ArgumentError: if there is no such shard.
    """

    num_shards: int = 1
    shard_index: int = 0

    def __post_init__(self) -> None:
        if self.num_shards < 1:
            raise ArgumentError('num_shards', self.num_shards, 'expected at least 1')
        if not 0 <= self.shard_index < self.num_shards:
            raise ArgumentError(
                'shard_index', self.shard_index, f'expected 0 to {self.num_shards - 1}'
            )

    @property
    def is_whole(self) -> bool:
        """Whether there is nobody to divide the work with."""
        return self.num_shards == 1

    def share(self, items: Sequence[_T]) -> Sequence[_T]:
        """Returns this shard's items: neighbours, as many as any other shard has, or one more.

        Neighbours, so that what stands beside each other for a reason, such as the trainings on
        one model, stays with as few shards as can be.
        """
        start, stop = (
            index * len(items) // self.num_shards
            for index in (self.shard_index, self.shard_index + 1)
        )
        return items[start:stop]


WHOLE = Shard()
