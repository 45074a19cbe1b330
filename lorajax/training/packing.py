"""The examples of a step laid end to end: hardly any token that is computed is filling.

A step's examples form long rows, one or several for every part of the mesh's batch axes. Attention
looks back no farther than the longest example (`models.attention.Blocking`), so a long row costs
no more than its examples. Where all examples are about equally long, each has a block to itself
and sees nothing else.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lorajax.tasks.chat import Encoded

_EVEN = 0.85  # mean length over the longest, from which every example gets a block to itself
_CUTS = 11  # into about how many blocks the longest example is cut otherwise
_MOST = 128  # tokens of a block then
_UNITS = 16  # an adapter's examples of a step fill at least as many units where they are uneven
_FILLED = 1.03  # where they are even, as much more than them may be computed for larger units
# Attention to a window of this many tokens counts as much as all else that a token costs; only
# for the choice of shapes.
_WINDOW = 2048


class Pack(NamedTuple):
    """What a training step reads, on the host or on devices.

    Attributes:
      tokens: int32[B, T], examples end to end.
      segment_ids: int32[B, T], number of the example in its row from 1 on; 0 for filling.
      target_index: int32[B, M], where in its row each token stands that the loss counts.
      target_mask: float32[B, M], 1 for real targets.
      adapter_index: int32[B, T / u], whose each unit of u tokens is, counted in the row's part of
        the mesh.
    """

    tokens: Any
    segment_ids: Any
    target_index: Any
    target_mask: Any
    adapter_index: Any


class Shape(NamedTuple):
    """What a program is compiled for, or what a step needs at least.

    Attributes:
      tokens: T, of a row.
      targets: M, of a row.
      lookback: blocks before its own that a token may look into.
    """

    tokens: int
    targets: int
    lookback: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the examples of a step are laid out.

    Attributes:
      num_shards: parts of the mesh's batch axes.
      num_pieces: rows of each, which are computed one after the other.
      num_adapters: A; from two on every adapter begins with a unit of its own.
      block: c, tokens.
      is_aligned: whether every example begins with a block of its own, none being longer.
      unit_blocks: blocks that have one adapter: the products with its factors are as tall.
    """

    num_shards: int
    num_pieces: int
    num_adapters: int
    block: int
    is_aligned: bool
    unit_blocks: int = 1

    @property
    def unit(self) -> int:
        """u, tokens that have one adapter; divides a row."""
        return self.block * self.unit_blocks

    @property
    def num_rows(self) -> int:
        """B, rows of a step, those of one part of the mesh beside each other."""
        return self.num_shards * self.num_pieces

    def place(self, lengths: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns int64[n] rows and int64[n] first tokens of each adapter's n examples.

        An adapter's examples stand beside each other, so that few units begin in vain.
        """
        whole = [
            _up(of_adapter, self.block) if self.is_aligned else of_adapter for of_adapter in lengths
        ]
        if self.num_rows == 1:
            rows = [np.zeros(len(sizes), np.int64) for sizes in whole]
        else:
            rows = self._fill(whole)
        starts = [np.zeros(len(sizes), np.int64) for sizes in whole]
        ends = np.zeros(self.num_rows, np.int64)
        for adapter, sizes in enumerate(whole):
            if self.num_adapters > 1:
                ends = _up(ends, self.unit)
            for row in np.unique(rows[adapter]):
                mine = rows[adapter] == row
                stops = ends[row] + np.cumsum(sizes[mine])
                starts[adapter][mine] = stops - sizes[mine]
                ends[row] = stops[-1]
        return rows, starts

    def _fill(self, sizes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the row of each example: as even rows as filling one after the other gives."""
        every = np.concatenate(sizes)
        capacity = max(-(-int(every.sum()) // self.num_rows), int(every.max(initial=0)))
        while True:
            capacity = _up(capacity, self.unit)
            rows = self._fill_to(sizes, capacity)
            if rows is not None:
                return rows
            capacity += 1

    def _fill_to(self, sizes: Sequence[np.ndarray], capacity: int) -> list[np.ndarray] | None:
        """Returns the row of each example, the longest that still fits next; None if too many."""
        rows, row, end = [np.zeros(len(of_adapter), np.int64) for of_adapter in sizes], 0, 0
        for adapter, of_adapter in enumerate(sizes):
            end = _up(end, self.unit) if self.num_adapters > 1 else end
            left = np.argsort(-of_adapter, kind='stable').tolist()
            while left:
                fitting = next((i for i in left if end + of_adapter[i] <= capacity), None)
                if fitting is None:
                    row, end = row + 1, 0
                    if row == self.num_rows:
                        return None
                    continue
                left.remove(fitting)
                rows[adapter][fitting] = row
                end += int(of_adapter[fitting])
        return rows

    def need(self, lengths: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Shape:
        """Returns the least shape that holds examples, given the lengths and targets of each."""
        rows, starts = self.place(lengths)
        row, stop = np.concatenate(rows), np.concatenate(starts) + np.concatenate(lengths)
        most = np.bincount(row, np.concatenate(targets), self.num_rows).max()
        longest = int(np.concatenate(lengths).max())
        lookback = 0 if self.is_aligned else -(-(longest - 1) // self.block)
        return Shape(int(_up(stop.max(), self.unit)), int(most), lookback)

    def pack(self, chosen: Sequence[Sequence[Encoded]], shape: Shape, pad_id: int) -> Pack:
        """Returns the pack of the examples of every adapter.

        Args:
          chosen: the examples of each of the A adapters; some may have none.
          shape: holds them.
          pad_id: token that fills.
        """
        tokens = np.full((self.num_rows, shape.tokens), pad_id, np.int32)
        segment_ids = np.zeros_like(tokens)
        index = np.ones((self.num_rows, shape.targets), np.int32)
        mask = np.zeros(index.shape, np.float32)
        owner = np.zeros((self.num_rows, shape.tokens // self.unit), np.int32)
        segments, targets = np.zeros((2, self.num_rows), np.int64)
        lengths = [np.array([length_of(e) for e in rows], np.int64) for rows in chosen]
        for adapter, places in enumerate(zip(*self.place(lengths), strict=True)):
            for example, row, start in zip(chosen[adapter], *places, strict=True):
                stop = start + length_of(example)
                tokens[row, start:stop] = np.concatenate([example.prompt, example.answer])
                segments[row] += 1
                segment_ids[row, start:stop] = segments[row]
                found = slice(targets[row], targets[row] + len(example.targets))
                index[row, found] = start + example.targets
                mask[row, found] = 1.0
                targets[row] = found.stop
                owner[row, start // self.unit : -(-stop // self.unit)] = adapter
        return Pack(tokens, segment_ids, index, mask, owner)


def make_layout(
    num_shards: int,
    num_adapters: int,
    lengths: np.ndarray,
    batch_size: int,
    piece_tokens: float = np.inf,
) -> Layout:
    """Returns the layout of trainings.

    Args:
      num_shards: parts of the mesh's batch axes.
      num_adapters: A.
      lengths: int64[examples], tokens of all examples.
      batch_size: examples of a step and adapter.
      piece_tokens: about how many tokens are computed at a time on a part of the mesh. Uneven
        examples are not cut into pieces of less than sixteen, which could not be filled evenly.
    """
    longest, mean = int(lengths.max()), float(lengths.mean())
    is_aligned = mean >= _EVEN * longest
    block = longest if is_aligned else 16
    while not is_aligned and block < _MOST and block * _CUTS < longest:
        block *= 2
    count = -(-batch_size * num_adapters // num_shards)  # examples of a part of the mesh
    pieces = max(1, int(count * mean // piece_tokens))
    if not is_aligned:
        pieces, unit = max(1, min(pieces, count // 16)), 1
        # Half a unit is filling for each adapter.
        while num_adapters > 1 and 2 * unit * block * _UNITS <= batch_size * mean:
            unit *= 2
        return Layout(num_shards, pieces, num_adapters, block, is_aligned, unit)
    unit = batch_size & -batch_size if num_adapters > 1 else 1  # the largest power of two in it
    while True:
        units = count // unit
        # Some more pieces where that leaves fewer units empty.
        choices = range(pieces, pieces + pieces * 2 // 3 + 1)
        best = min(choices, key=lambda n: -(-units // n) * n)
        if unit == 1 or -(-units // best) * best <= units * _FILLED:
            return Layout(num_shards, best, num_adapters, block, is_aligned, unit)
        unit //= 2


def _up(count: Any, unit: int) -> Any:
    """Rounds up to whole units."""
    return -(-count // unit) * unit


def length_of(example: Encoded) -> int:
    """Returns the tokens of an example."""
    return len(example.prompt) + len(example.answer)


def choose_shapes(needs: Sequence[Shape], layout: Layout, program_tokens: float) -> list[Shape]:
    """Returns the shape for each step: few, as each is compiled, and with little filling.

    Args:
      needs: of each step.
      layout: of the training.
      program_tokens: tokens that are trained on in the time in which a program is compiled.
    """
    rounded = [
        Shape(_round_up(need.tokens, layout.unit), _round_up(need.targets, 16), need.lookback)
        for need in needs
    ]
    orders = (sorted(rounded), sorted(rounded, key=lambda s: (s.lookback, s.tokens)))
    groups = min((_group(order, layout, program_tokens) for order in orders), key=lambda g: g[0])[1]
    chosen: dict[Shape, Shape] = {}
    for group in groups:
        chosen |= dict.fromkeys(group, Shape(*(max(sizes) for sizes in zip(*group, strict=True))))
    return [chosen[shape] for shape in rounded]


def _round_up(count: int, unit: int) -> int:
    """Rounds up to multiples of a unit, or of its double, ... that is at most 1 / 32 of it."""
    while unit * 64 <= count:
        unit *= 2
    return -(-count // unit) * unit


def _group(
    ordered: Sequence[Shape], layout: Layout, program_tokens: float
) -> tuple[float, list[list[Shape]]]:
    """Returns the least cost of cutting ordered steps into groups of one shape, and the groups."""
    distinct = list(dict.fromkeys(ordered))
    counts = [ordered.count(shape) for shape in distinct]
    best: list[tuple[float, int]] = [(0.0, 0)]  # cost of the first n, where the last group begins
    for stop in range(1, len(distinct) + 1):
        count = tokens = lookback = 0
        candidates = []
        for start in range(stop - 1, -1, -1):
            count += counts[start]
            tokens = max(tokens, distinct[start].tokens)
            lookback = max(lookback, distinct[start].lookback)
            window = (lookback + 1) * layout.block
            cost = count * layout.num_rows * tokens * (1 + window / _WINDOW)
            candidates.append((best[start][0] + cost + program_tokens, start))
        best.append(min(candidates))
    groups, stop = [], len(distinct)
    while stop:
        start = best[stop][1]
        groups.append(distinct[start:stop])
        stop = start
    return best[-1][0], groups
