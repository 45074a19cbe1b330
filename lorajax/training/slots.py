"""Which adapter has which place of the stack, and when.

A training step has a stack of adapters. Where there are more adapters than places, one whose
training has ended leaves its place to the next one instead of idling in it.
"""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Slots:
    """The places of A adapters over the steps of a training.

    Attributes:
      num_steps: int64[A], steps of each.
      slot: int64[A], the place of each.
      first: int64[A], the step at which each begins.
      parts: of the mesh's axis of adapters, which divides the places.
    """

    num_steps: np.ndarray
    slot: np.ndarray
    first: np.ndarray
    parts: int = 1

    @property
    def num_used(self) -> int:
        """Places that ever have an adapter, the first of all."""
        return int(self.slot.max()) + 1

    @property
    def num_places(self) -> int:
        """Places of the stack; those beyond `num_used` make it divisible."""
        return -(-self.num_used // self.parts) * self.parts

    @functools.cached_property
    def occupants(self) -> np.ndarray:
        """int64[S, places], which adapter is trained in a place at a step; -1 for none."""
        stops = self.first + self.num_steps
        occupants = np.full((stops.max(), self.num_places), -1)
        for adapter, (slot, first, stop) in enumerate(
            zip(self.slot, self.first, stops, strict=True)
        ):
            occupants[first:stop, slot] = adapter
        return occupants

    def arrivals(self, step: int) -> list[int]:
        """Returns the adapters that begin at a step."""
        return np.flatnonzero(self.first == step).tolist()

    def holder(self, slot: int, step: int) -> int | None:
        """Returns the adapter that was the last to begin in a place before a step, if any did."""
        came = np.flatnonzero((self.slot == slot) & (self.first < step))
        return int(came[np.argmax(self.first[came])]) if len(came) else None


def assign(num_steps: np.ndarray, count: int = 0, parts: int = 1) -> Slots:
    """Gives every adapter a place: long trainings first, each where one is free first.

    So the places end at about the same time: Graham 1969 bounds the last one's end by 4/3 of the
    best possible.

    Args:
      num_steps: int64[A], at least 1 each.
      count: places; as many as there are adapters if 0 or more than them.
      parts: see `Slots`; places beyond `count` that they ask for are used, too.
    """
    count = -(-count // parts) * parts
    if not 0 < count < len(num_steps):
        none = np.zeros(len(num_steps), np.int64)
        return Slots(num_steps, np.arange(len(num_steps)), none, parts)
    slot, first = np.zeros((2, len(num_steps)), np.int64)
    ends = np.zeros(count, np.int64)
    for adapter in np.argsort(-num_steps, kind='stable'):
        slot[adapter] = ends.argmin()
        first[adapter] = ends[slot[adapter]]
        ends[slot[adapter]] += num_steps[adapter]
    return Slots(num_steps, slot, first, parts)
