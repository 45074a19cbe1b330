"""Answers of many adapters to many prompts: finished rows leave, waiting rows enter.

Rows lie on a grid of groups and lanes (`grid.py`), and all groups decode in one compiled loop. When
enough lanes of a group are finished, the loop returns and they take the next prompts.

What a row says does not depend on the rows beside it: it has a lane of the cache and a random key
of its own.

Where adapters are spread over devices, each device has groups of its own, and all groups take new
prompts at the same time.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lorajax import processes, sharding
from lorajax.evaluation.grid import Grid, split_by_length
from lorajax.evaluation.inference import losses_after, on_mesh
from lorajax.models import Model, ModelConfig, decoding
from lorajax.models import step as step_lib
from lorajax.models.placement import adapter_shardings
from lorajax.models.prompts import Prompts, read_prompts
from lorajax.models.sampling import Greedy, Sampler
from lorajax.models.stacked import is_stacked
from lorajax.tasks.batching import bucket, pad_left
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.types import Adapter, JsonDict, Params

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
    for items in split_by_length([len(e.prompt) for e in cut], run.lanes):
        run.work_through(items)
    return answers


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
    def weights(self) -> Params:
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
        options: JsonDict = {'pad_id': self.chat.pad_id, 'sampler': self.sampler}
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

    def _begin(self, grid: Grid, room: int, options: JsonDict) -> decoding.DecodeState:
        """Reads the first prompts of all groups."""
        prompts, keys = self._read_groups(grid, grid.items)
        return decoding.begin(
            self.model.module, self.model.params, prompts, keys, grid.items < 0, self.stops,
            max_new_tokens=self.answers.tokens.shape[-1],
            num_slots=room - self._length(grid.items), split=self.split, **options,
        )  # fmt: skip

    def _insert_all(
        self, state: decoding.DecodeState, grid: Grid, chosen: np.ndarray, options: JsonDict
    ) -> decoding.DecodeState:
        """Reads prompts for some lanes of all groups, int32[G, refill]."""
        lanes = grid.items.shape[1]
        items = np.take_along_axis(grid.items, np.minimum(chosen, lanes - 1), 1)
        prompts, keys = self._read_groups(grid, np.where(chosen < lanes, items, -1))
        return decoding.insert(
            self.model.module, self.model.params, state, prompts, keys, None, chosen, self.stops,
            **options,
        )  # fmt: skip

    def _read_groups(self, grid: Grid, items: np.ndarray) -> tuple[Prompts, jax.Array]:
        """Reads the prompts of int[G, lanes] items, and keeps the losses of their answers.

        Returns:
          The prompts, and a key for each of them.
        """
        adapters, length = self._take(grid.adapters), self._length(items)
        rows = [self._prompts(row, length) for row in items]
        tokens, mask = (np.stack(part) for part in zip(*rows, strict=True))
        prompts = self._read(adapters, tokens, mask)
        for adapter, row, losses in zip(
            grid.adapters, items, self._losses(adapters, prompts, items), strict=True
        ):
            self.answers.nll[adapter, row[row >= 0]] = losses[row >= 0]
        return prompts, jax.vmap(lambda row: decoding.row_keys(self.key, row))(jnp.asarray(items))

    def _insert(
        self,
        state: decoding.DecodeState,
        grid: Grid,
        group: int,
        lanes: np.ndarray,
        options: JsonDict,
    ) -> decoding.DecodeState:
        """Reads prompts for some lanes of a group."""
        items = np.full(grid.refill, -1)
        items[: len(lanes)] = grid.items[group, lanes]
        targets = np.full(grid.refill, self.lanes, np.int32)  # beyond the lanes: left out
        targets[: len(lanes)] = lanes
        adapter = self._take(grid.adapters[group])
        prompts = self._read(adapter, *self._prompts(items, self._length(items)))
        losses = self._losses(adapter, prompts, items)
        self.answers.nll[grid.adapters[group], items[items >= 0]] = losses[items >= 0]
        return decoding.insert(
            self.model.module, self.model.params, state, prompts,
            decoding.row_keys(self.key, jnp.asarray(items)), jnp.int32(group), targets,
            self.stops, **options,
        )  # fmt: skip

    def _take(self, index: np.ndarray) -> Adapter:
        """Returns the adapters of groups, or one, where they are to be used."""
        leaves = jax.tree.leaves(self.stacked)
        if np.array_equal(index, np.arange(len(leaves[0]))):
            return self.stacked
        targets = tuple(self.stacked['layers'])
        take = _make_take(self.model.mesh, self.model.config, targets, np.shape(index))
        return take(self.stacked, index)

    def _length(self, items: np.ndarray) -> int:
        """Returns the width that the longest prompt of some items needs, tokens."""
        return bucket(max(len(self.examples[i].prompt) for i in items[items >= 0]))

    def _prompts(self, items: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Pads the prompts of items on the left: int32[lanes, length] tokens and mask.

        Items that are none (-1) stand behind the others.
        """
        prompts = [self.examples[i].prompt for i in items[items >= 0]]
        return pad_left(prompts, len(items), length, self.chat.pad_id)

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
) -> Callable[[Adapter, np.ndarray], Adapter]:
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
