"""Answers of many adapters to many prompts: finished rows leave, waiting rows enter.

Rows lie on a grid of groups and lanes. A group has one adapter at a time and its lanes decode
prompts of that adapter; all groups decode in one compiled loop. When enough lanes of a group are
finished, the loop returns and they take the next prompts; a group whose adapter has no prompt left
takes another adapter. So neither a long answer nor an adapter of long answers holds up the rest.

What a row says does not depend on the rows beside it: it has a lane of the cache and a random key
of its own.

Where adapters are spread over devices, each device has groups of its own, and all groups take new
prompts at the same time.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lorajax import processes, sharding
from lorajax.evaluation.inference import losses_after, on_mesh
from lorajax.models import Model, ModelConfig, decoding
from lorajax.models import step as step_lib
from lorajax.models.model import adapter_shardings
from lorajax.models.prompts import Prompts, read_prompts
from lorajax.models.sampling import Greedy, Sampler
from lorajax.models.stacked import is_stacked
from lorajax.tasks.batching import bucket, pad_left
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.types import Adapter

_REFILLS = 4  # a group takes new prompts when a quarter of its lanes is free


class Answers(NamedTuple):
    """What A adapters say to N prompts.

    Attributes:
      tokens: int32[A, N, M], the new tokens including the stop id, then the pad id.
      nll: float32[A, N], loss of the examples' own answers, nats per answer token; 0 for an
        example without an answer.
    """

    tokens: np.ndarray
    nll: np.ndarray


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


def answer(
    model: Model,
    chat: ChatFormat,
    adapters: Adapter | None,
    examples: Sequence[Encoded],
    *,
    batch_size: int,
    max_len: int,
    max_new_tokens: int,
    sampler: Sampler | None = None,
    key: jax.Array | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> Answers:
    """Lets every adapter answer every prompt, and scores the answers that are given.

    The loss of a given answer begins from the prompt as it was read for decoding.

    Args:
      model: the base.
      chat: its pad and stop ids.
      adapters: None, one adapter, or adapters stacked on A.
      examples: prompts and given answers, which may be empty.
      batch_size: lanes of each adapter, before they are rounded up for the mesh.
      max_len: tokens; prompts keep their last `max_len`.
      max_new_tokens: M.
      sampler: greedy if None.
      key: PRNG key of the sampler; what a row draws depends on it and the example's index.
      on_done: called with the number of answers that are new.

    Returns:
      The answers; A = 1 without stacked adapters.
    """
    count, stacked = _stacked(model, adapters)
    cut = [dataclasses.replace(e, prompt=e.prompt[-max_len:]) for e in examples]
    answers = Answers(
        np.full((count, len(cut), max_new_tokens), chat.pad_id, np.int32),
        np.zeros((count, len(cut)), np.float32),
    )
    run = _Run(
        model, chat, stacked, cut, answers,
        sharding.pad_rows(model.mesh, min(batch_size, bucket(len(cut)))),
        sampler or Greedy(), jax.random.key(0) if key is None else key, on_done,
    )  # fmt: skip
    for items in queues([len(e.prompt) for e in cut], run.lanes):
        run.work_through(items)
    return answers


def queues(lengths: Sequence[int], lanes: int) -> list[list[int]]:
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
class _Run:
    """One call of `answer`."""

    model: Model
    chat: ChatFormat
    stacked: Adapter
    examples: Sequence[Encoded]
    answers: Answers
    lanes: int
    sampler: Sampler
    key: jax.Array
    on_done: Callable[[int], None]

    @functools.cached_property
    def stops(self) -> jax.Array:
        """int32[N], the stop ids."""
        return jnp.asarray(self.chat.stop_ids, jnp.int32).reshape(-1)

    @functools.cached_property
    def split(self) -> bool:
        """Whether to decode with the layers apart."""
        return step_lib.pays(self.model.params)

    @functools.cached_property
    def weights(self) -> dict:
        """The base weights as the decode loop takes them."""
        params = self.model.params
        return step_lib.split_layers(params) if self.split else params

    def work_through(self, items: list[int]) -> None:
        """Answers items, which are ordered from long to short prompts."""
        count = self.answers.tokens.shape[0]
        refill = min(self.lanes, sharding.pad_rows(self.model.mesh, max(1, self.lanes // _REFILLS)))
        groups = sharding.pad_adapters(self.model.mesh, count)
        grid = Grid.start(count, self.lanes, refill, items, groups)
        room = bucket(len(self.examples[items[0]].prompt)) + self.answers.tokens.shape[-1]
        options = {'pad_id': self.chat.pad_id, 'sampler': self.sampler}
        grid.fill()
        state = self._begin(grid, room, options)
        while grid.is_active() or grid.num_waiting():
            if not grid.is_active() and 2 * grid.num_waiting() > grid.items.size:
                grid.fill()
                state = self._begin(grid, room, options)
            if self.model.mesh.shape['adapters'] > 1:
                while (chosen := grid.refill_together()) is not None:
                    state = self._insert_all(state, grid, chosen, options)
            else:
                for group, lanes in grid.refills():
                    state = self._insert(state, grid, group, lanes, options)
            state = decoding.decode(
                self.model.module, self.weights, self._take(grid.adapters), state,
                self.stops, grid.thresholds(), **options,
            )  # fmt: skip
            output, is_done = processes.to_host((state.output, state.is_done))
            ended = grid.finish(is_done)
            for group, lane, adapter, item in ended:
                self.answers.tokens[adapter, item] = output[group, lane]
            self.on_done(len(ended))

    def _begin(self, grid: Grid, room: int, options: dict) -> decoding.DecodeState:
        """Reads the first prompts of all groups."""
        taken = grid.items[grid.items >= 0]
        length = bucket(max(len(self.examples[i].prompt) for i in taken))
        rows = [self._prompts(row[row >= 0], self.lanes, length) for row in grid.items]
        tokens, mask = (np.stack(part) for part in zip(*rows, strict=True))
        adapters = self._take(grid.adapters)
        prompts = self._read(adapters, tokens, mask)
        for group, losses in enumerate(self._losses(adapters, prompts, grid.items)):
            is_taken = grid.items[group] >= 0
            self.answers.nll[grid.adapters[group], grid.items[group][is_taken]] = losses[is_taken]
        keys = jax.vmap(lambda row: decoding.row_keys(self.key, row))(jnp.asarray(grid.items))
        return decoding.begin(
            self.model.module, self.model.params, prompts, keys, grid.items < 0, self.stops,
            max_new_tokens=self.answers.tokens.shape[-1], num_slots=room - length,
            split=self.split, **options,
        )  # fmt: skip

    def _insert(
        self, state: decoding.DecodeState, grid: Grid, group: int, lanes: np.ndarray, options: dict
    ) -> decoding.DecodeState:
        """Reads prompts for some lanes of a group."""
        items = grid.items[group, lanes]
        padded = np.full(grid.refill, -1)
        padded[: len(items)] = items
        targets = np.full(grid.refill, self.lanes, np.int32)  # beyond the lanes: left out
        targets[: len(lanes)] = lanes
        adapter = self._take(grid.adapters[group])
        length = bucket(max(len(self.examples[i].prompt) for i in items))
        prompts = self._read(adapter, *self._prompts(items, grid.refill, length))
        losses = self._losses(adapter, prompts, padded)
        self.answers.nll[grid.adapters[group], items] = losses[: len(items)]
        return decoding.insert(
            self.model.module, self.model.params, state, prompts,
            decoding.row_keys(self.key, jnp.asarray(padded)), jnp.int32(group), targets,
            self.stops, **options,
        )  # fmt: skip

    def _insert_all(
        self, state: decoding.DecodeState, grid: Grid, chosen: np.ndarray, options: dict
    ) -> decoding.DecodeState:
        """Reads prompts for some lanes of all groups, int32[G, refill]."""
        lanes = grid.items.shape[1]
        items = np.where(
            chosen < lanes, np.take_along_axis(grid.items, np.minimum(chosen, lanes - 1), 1), -1
        )
        adapters = self._take(grid.adapters)
        length = bucket(max(len(self.examples[i].prompt) for i in items[items >= 0]))
        rows = [self._prompts(row[row >= 0], grid.refill, length) for row in items]
        prompts = self._read(adapters, *(np.stack(part) for part in zip(*rows, strict=True)))
        for adapter, row, losses in zip(
            grid.adapters, items, self._losses(adapters, prompts, items), strict=True
        ):
            self.answers.nll[adapter, row[row >= 0]] = losses[row >= 0]
        keys = jax.vmap(lambda row: decoding.row_keys(self.key, row))(jnp.asarray(items))
        return decoding.insert(
            self.model.module, self.model.params, state, prompts, keys, None, chosen, self.stops,
            **options,
        )  # fmt: skip

    def _take(self, index: np.ndarray) -> Adapter:
        """Returns the adapters of groups, or one, where they are to be used."""
        leaves = jax.tree.leaves(self.stacked)
        if np.array_equal(index, np.arange(len(leaves[0]))):
            return self.stacked
        targets = tuple(self.stacked['layers'])
        take = _make_take(self.model.mesh, self.model.config, targets, np.shape(index))
        return take(self.stacked, index)

    def _prompts(self, items: np.ndarray, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Pads the prompts of items on the left: int32[rows, length] tokens and mask."""
        prompts = [self.examples[i].prompt for i in items]
        return pad_left(prompts, rows, length, self.chat.pad_id)

    def _read(self, adapter: Adapter, tokens: np.ndarray, mask: np.ndarray) -> Prompts:
        """Reads prompts, with one adapter or with stacked ones."""
        placed = on_mesh(self.model, (tokens, mask))
        return read_prompts(self.model.module, self.model.params, adapter, *placed)

    def _losses(self, adapter: Adapter, prompts: Prompts, items: np.ndarray) -> np.ndarray:
        """Returns float32[(G,) B], mean losses of the answers given to items; -1 is no item."""
        given = [self.examples[i] if i >= 0 else None for i in items.reshape(-1)]
        return losses_after(self.model, adapter, prompts, given)


@functools.cache
def _make_take(
    mesh: Mesh, config: ModelConfig, targets: tuple[str, ...], shape: tuple[int, ...]
) -> Any:
    """Returns the compiled function that picks adapters, or one, out of stacked ones."""
    where = adapter_shardings(mesh, config, targets, *shape)
    if not shape:
        where = jax.tree.map(lambda at: NamedSharding(mesh, PartitionSpec(*at.spec[1:])), where)

    def take(adapters: Adapter, index: jax.Array) -> Adapter:
        return jax.tree.map(lambda leaf: leaf[index], adapters)

    return jax.jit(take, out_shardings=where)


def _stacked(model: Model, adapter: Adapter | None) -> tuple[int, Adapter]:
    """Returns the number of adapters, and the adapters on the mesh, padded to what it divides.

    The base alone is one adapter that changes nothing.
    """
    if not adapter or not adapter['layers']:
        depth, (fan_in, fan_out) = model.config.num_layers, model.config.projections['o_proj']
        zero = {'a': np.zeros((1, depth, fan_in, 1)), 'b': np.zeros((1, depth, 1, fan_out))}
        adapter = {'layers': {'o_proj': jax.tree.map(np.float32, zero)}}
    elif not is_stacked(adapter):
        adapter = jax.tree.map(lambda leaf: leaf[None], adapter)
    count = jax.tree.leaves(adapter)[0].shape[0]
    whole = sharding.pad_adapters(model.mesh, count)
    where = adapter_shardings(model.mesh, model.config, tuple(adapter['layers']), whole)

    def place(leaf: np.ndarray, at: NamedSharding) -> jax.Array:
        if whole > count:
            leaf = np.pad(np.asarray(leaf), [(0, whole - count)] + [(0, 0)] * (leaf.ndim - 1))
        return processes.place(leaf, at)

    return count, jax.tree.map(place, {'layers': dict(adapter['layers'])}, where)
