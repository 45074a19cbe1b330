"""Which lane of which group decodes what, as rows come and go.

A group has one adapter at a time, and its lanes decode prompts of that adapter. Free lanes take the
next prompts; a group whose adapter has no prompt left takes another adapter. So neither a long
answer nor an adapter of long answers holds up the rest.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from lorajax.tasks.batching import bucket


def split_by_length(lengths: Sequence[int], lanes: int) -> list[list[int]]:
    """Splits items into groups that are decoded with one cache, long prompts first.

    A group ends where prompts need only half its cache and it has kept the lanes busy a while:
    every group ends with lanes that wait for its last rows.

    Args:
      lengths: tokens of each prompt.
      lanes: rows of the grid per adapter.
    """
    groups: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        is_short = groups and 2 * bucket(lengths[item]) <= bucket(lengths[groups[-1][0]])
        if not groups or (is_short and len(groups[-1]) >= 4 * lanes):
            groups.append([])
        groups[-1].append(item)
    return groups


@dataclasses.dataclass
class Grid:
    """Which lane of which group works on what, on the host.

    Attributes:
      adapters: int[G], the adapter of each group.
      items: int[G, B], what each lane works on, -1 for nothing.
      waiting: per adapter the items that nobody has taken yet, in order.
      refill: lanes that take new prompts together.
    """

    adapters: np.ndarray
    items: np.ndarray
    waiting: list[collections.deque[int]]
    refill: int

    @classmethod
    def start(
        cls, adapters: int, lanes: int, refill: int, items: Sequence[int], groups: int = 0
    ) -> 'Grid':
        """Returns a grid of one group per adapter, or more, where everything waits."""
        groups = groups or adapters
        return cls(
            np.arange(groups) % adapters,
            np.full((groups, lanes), -1),
            [collections.deque(items) for _ in range(adapters)],
            refill,
        )

    def num_waiting(self) -> int:
        """Counts the items that nobody has taken, over all adapters."""
        return sum(map(len, self.waiting))

    def is_active(self) -> bool:
        """Returns whether any lane works."""
        return bool((self.items >= 0).any())

    def thresholds(self) -> np.ndarray:
        """Returns int32[G], the finished lanes at which a group can take new prompts."""
        lanes = self.items.shape[1]
        idle = lanes if self.num_waiting() else lanes + 1
        return np.array([self.refill if self.waiting[a] else idle for a in self.adapters], np.int32)

    def fill(self) -> None:
        """Gives prompts to all lanes of a grid that does not work."""
        for group in range(len(self.adapters)):
            self._choose_adapter(group)
            queue = self.waiting[self.adapters[group]]
            for lane in range(min(len(queue), self.items.shape[1])):
                self.items[group, lane] = queue.popleft()

    def refills(self) -> Iterator[tuple[int, np.ndarray]]:
        """Gives prompts to free lanes, `refill` or fewer at a time.

        Yields:
          The group and its lanes, int[<= refill].
        """
        for group in range(len(self.adapters)):
            while True:
                free = np.flatnonzero(self.items[group] < 0)
                if len(free) == self.items.shape[1]:
                    self._choose_adapter(group)
                queue = self.waiting[self.adapters[group]]
                if not queue or len(free) < self.refill:
                    break
                lanes = free[: min(self.refill, len(queue))]
                self.items[group, lanes] = [queue.popleft() for _ in lanes]
                yield group, lanes

    def refill_together(self) -> np.ndarray | None:
        """Gives prompts to free lanes of all groups, if one of them has enough that are free.

        Returns:
          int32[G, refill], the lanes of each group, beyond the last where there are fewer; None
          if there is nothing to do.
        """
        count = self.items.shape[1]
        free = [np.flatnonzero(row < 0) for row in self.items]
        for group, lanes in enumerate(free):
            if len(lanes) == count:
                self._choose_adapter(group)
        queues = [self.waiting[adapter] for adapter in self.adapters]
        if not any(q and len(f) >= self.refill for q, f in zip(queues, free, strict=True)):
            return None
        chosen = np.full((len(free), self.refill), count, np.int32)
        for group, (queue, lanes) in enumerate(zip(queues, free, strict=True)):
            taken = lanes[: min(self.refill, len(queue))]
            self.items[group, taken] = [queue.popleft() for _ in taken]
            chosen[group, : len(taken)] = taken
        return chosen

    def finish(self, is_done: np.ndarray) -> list[tuple[int, int, int, int]]:
        """Frees lanes that are done; returns (group, lane, adapter, item) of each."""
        places = np.argwhere(is_done & (self.items >= 0)).tolist()
        ended = [(g, b, int(self.adapters[g]), int(self.items[g, b])) for g, b in places]
        self.items[is_done] = -1
        return ended

    def _choose_adapter(self, group: int) -> None:
        """Gives a group that does not work the adapter with most to do, if its own has nothing."""
        if not self.waiting[self.adapters[group]]:
            self.adapters[group] = np.argmax([len(queue) for queue in self.waiting])
