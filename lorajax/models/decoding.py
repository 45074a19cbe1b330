"""Generation: prompts are read, then a compiled loop adds a token to every row at once.

Rows are padded on the left and all of them write to the same cache slot. With stacked adapters
every adapter decodes its own rows in the same loop; base weights are read once a step for all.
The loop stops early where finished rows could be replaced: `insert` puts new prompts in their
place, and `evaluation.continuous` says when.
"""

import dataclasses
import functools
from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp

from lorajax.models import cache as cache_lib
from lorajax.models import step as step_lib
from lorajax.models.prompts import Prompts, read_prompts
from lorajax.models.sampling import Greedy, Sampler
from lorajax.models.stacked import forward, is_stacked
from lorajax.models.transformer import Transformer, unembed
from lorajax.types import Adapter, Params


@flax.struct.dataclass
class DecodeState:
    """What the decode loop carries.

    Attributes:
      slot: int32[], the cache slot that all rows write next.
      count: int32[(A,) B], tokens generated so far.
      output: int32[(A,) B, max_new_tokens], filled up to `count`, pad id beyond a stop id.
      last: int32[(A,) B], the newest token, not yet in the cache.
      position: int32[(A,) B], the position of `last`.
      is_done: bool[(A,) B], whether the row has produced a stop id or is full.
      keys: uint32[(A,) B, ...], data of each row's PRNG key.
      cache: keys and values of everything before `last`.
    """

    slot: jax.Array
    count: jax.Array
    output: jax.Array
    last: jax.Array
    position: jax.Array
    is_done: jax.Array
    keys: jax.Array
    cache: cache_lib.Cache


def row_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns uint32[N, ...] key data, one key for each of int32[N] numbers of rows.

    A row's random numbers follow from `key`, its number and how many tokens it has: not from
    the rows beside it, and they are the same for every adapter.
    """
    return jax.random.key_data(jax.vmap(lambda row: jax.random.fold_in(key, row))(rows))


def _draw(sampler: Sampler, logits: jax.Array, keys: jax.Array, count: jax.Array) -> jax.Array:
    """Chooses int32[(A,) B] tokens from logits [(A,) B, V], each row with a key of its own."""

    def one(logits: jax.Array, data: jax.Array, count: jax.Array) -> jax.Array:
        return sampler(logits, jax.random.fold_in(jax.random.wrap_key_data(data), count))

    for _ in count.shape:
        one = jax.vmap(one)
    return one(logits, keys, count)


def _advance(
    module: Transformer,
    state: DecodeState,
    params: Params,
    hidden: jax.Array,
    eos_ids: jax.Array,
    pad_id: int,
    sampler: Sampler,
) -> DecodeState:
    """Chooses the next token of every unfinished row from hidden states [(A,) B, D]."""
    logits = unembed(params, hidden, module.config.logit_softcap, module.mesh)
    token = _draw(sampler, logits, state.keys, state.count)
    token = jnp.where(state.is_done, pad_id, token)
    length = state.output.shape[-1]
    is_next = (jnp.arange(length) == state.count[..., None]) & ~state.is_done[..., None]
    count = state.count + ~state.is_done
    is_stop = (token[..., None] == eos_ids).any(axis=-1)
    return dataclasses.replace(
        state,
        count=count,
        output=jnp.where(is_next, token[..., None], state.output),
        last=token,
        position=state.position + 1,
        is_done=state.is_done | is_stop | (count >= length),
    )


@functools.partial(
    jax.jit,
    static_argnames=('module', 'max_new_tokens', 'pad_id', 'sampler', 'num_slots', 'split'),
)
def begin(
    module: Transformer,
    params: Params,
    prompts: Prompts,
    keys: jax.Array,
    is_idle: jax.Array,
    eos_ids: jax.Array,
    *,
    max_new_tokens: int,
    pad_id: int,
    sampler: Sampler,
    num_slots: int,
    split: bool,
) -> DecodeState:
    """Chooses the first new token of every row.

    Args:
      module: the decoder.
      params: base weights.
      prompts: from `read_prompts`.
      keys: uint32[(A,) B, ...], see `row_keys`.
      is_idle: bool[(A,) B], rows that hold no prompt to answer.
      eos_ids: int32[N], stop ids.
      max_new_tokens: width of the output.
      pad_id: fills a row after its stop id.
      sampler: chooses tokens.
      num_slots: slots of the cache behind the prompts; `max_new_tokens`, or more where longer
        prompts are to come.
      split: whether the layers of the cache are to be apart.

    Returns:
      The state that `decode` continues.
    """
    rows = prompts.valid.shape[:-1]
    state = DecodeState(
        slot=jnp.int32(prompts.valid.shape[-1]),
        count=jnp.zeros(rows, jnp.int32),
        output=jnp.full((*rows, max_new_tokens), pad_id, jnp.int32),
        last=jnp.zeros(rows, jnp.int32),
        position=prompts.valid.sum(axis=-1, dtype=jnp.int32) - 1,
        is_done=is_idle,
        keys=keys,
        cache=cache_lib.from_prompts((prompts.k, prompts.v), prompts.valid, num_slots, split),
    )
    return _advance(module, state, params, prompts.hidden, eos_ids, pad_id, sampler)


@functools.partial(
    jax.jit, static_argnames=('module', 'pad_id', 'sampler'), donate_argnames=('state',)
)
def insert(
    module: Transformer,
    params: Params,
    state: DecodeState,
    prompts: Prompts,
    keys: jax.Array,
    group: jax.Array | None,
    lanes: jax.Array,
    eos_ids: jax.Array,
    *,
    pad_id: int,
    sampler: Sampler,
) -> DecodeState:
    """Puts new prompts in the place of finished rows of one adapter, or of all.

    Args:
      module: the decoder.
      params: base weights.
      state: of stacked adapters; donated.
      prompts: of N rows, read with the adapter of `group`, or of A times N; no longer than the
        cache less the output.
      keys: uint32[(A,) N, ...], see `row_keys`.
      group: int32[], index on A; None for all adapters, each with prompts of its own.
      lanes: int32[(A,) N], indices on B; those outside of it are left out.
      eos_ids: int32[N], stop ids.
      pad_id: fills a row after its stop id.
      sampler: chooses tokens.

    Returns:
      The state with the first new token of the new rows; other rows are as they were.
    """
    length = state.output.shape[-1]
    fresh = DecodeState(
        slot=state.slot,
        count=jnp.zeros(lanes.shape, jnp.int32),
        output=jnp.full((*lanes.shape, length), pad_id, jnp.int32),
        last=jnp.zeros(lanes.shape, jnp.int32),
        position=prompts.valid.sum(axis=-1, dtype=jnp.int32) - 1,
        is_done=jnp.zeros(lanes.shape, bool),
        keys=keys,
        cache=state.cache,
    )
    fresh = _advance(module, fresh, params, prompts.hidden, eos_ids, pad_id, sampler)

    def put(name: str) -> jax.Array:
        return cache_lib.put_rows(getattr(state, name), getattr(fresh, name), group, lanes)

    rows = ('count', 'output', 'last', 'position', 'is_done', 'keys')
    cache = cache_lib.insert(
        state.cache, (prompts.k, prompts.v), prompts.valid, state.slot, group, lanes
    )
    return dataclasses.replace(state, cache=cache, **{name: put(name) for name in rows})


@functools.partial(
    jax.jit, static_argnames=('module', 'pad_id', 'sampler'), donate_argnames=('state',)
)
def decode(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    state: DecodeState,
    eos_ids: jax.Array,
    refill_at: jax.Array,
    *,
    pad_id: int,
    sampler: Sampler,
) -> DecodeState:
    """Adds tokens until every row is finished, or enough rows of one adapter are.

    Args:
      module: the decoder.
      params: base weights; layers apart if those of the cache are.
      adapter: None, one adapter, or adapters stacked on A.
      state: from `begin`, `insert` or `decode`; donated, its cache is updated in place.
      eos_ids: int32[N], stop ids.
      refill_at: int32[(A)], finished rows of an adapter at which to return; more than B for
        never.
      pad_id: fills a row after its stop id.
      sampler: chooses tokens.

    Returns:
      The state; it takes over the donated buffers.
    """
    entries = step_lib.split_adapter(adapter, module.config.num_layers)

    def goes_on(state: DecodeState) -> jax.Array:
        finished = state.is_done.sum(axis=-1, dtype=jnp.int32)
        return ~state.is_done.all() & ~(finished >= refill_at).any()

    def step(state: DecodeState) -> DecodeState:
        if step_lib.is_split(params):
            hidden, cache = _step_apart(module, params, entries, state)
        else:
            hidden, kv = forward(
                module,
                params,
                adapter,
                state.last[..., None],
                jnp.ones_like(state.last[..., None]),
                state.position[..., None],
                state.cache,
                return_kv=True,
                slot=state.slot,
            )
            hidden = hidden[..., 0, :]
            cache = cache_lib.write(state.cache, kv, state.slot)
        slot = (state.slot + 1) % cache.valid.shape[-1]
        state = dataclasses.replace(state, cache=cache, slot=slot)
        return _advance(module, state, params, hidden, eos_ids, pad_id, sampler)

    return jax.lax.while_loop(goes_on, step, state)


def _step_apart(
    module: Transformer, params: Params, entries: tuple[Any, ...], state: DecodeState
) -> tuple[jax.Array, cache_lib.Cache]:
    """Runs `step.one_token` on [(A,) B] rows."""

    def one(
        entries: tuple[Any, ...], last: jax.Array, position: jax.Array, cache: cache_lib.Cache
    ) -> tuple[jax.Array, cache_lib.Cache]:
        return step_lib.one_token(module, params, entries, last, position, cache, state.slot)

    one = jax.vmap(one) if state.last.ndim == 2 else one
    return one(entries, state.last, state.position, state.cache)


def generate(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    segment_ids: jax.Array,
    *,
    max_new_tokens: int,
    eos_ids: tuple[int, ...] = (),
    pad_id: int = 0,
    sampler: Sampler | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """Continues every prompt.

    Args:
      module: the decoder.
      params: base weights.
      adapter: None, one adapter, or adapters stacked on A.
      tokens: int32[B, T] prompts, padded on the left; with stacked adapters int32[A, B, T].
      segment_ids: like `tokens`, 1 for prompt tokens and 0 for padding.
      max_new_tokens: width of the output, tokens.
      eos_ids: stop ids; a row ends with the first that it produces.
      pad_id: what fills a row after its stop id.
      sampler: `Greedy` by default.
      key: PRNG key for the sampler; what a row draws depends on it and the row's index in B.

    Returns:
      int32[(A,) B, max_new_tokens], the new tokens including the stop id.
    """
    chex.assert_equal_shape((tokens, segment_ids))
    chex.assert_rank(tokens, 3 if is_stacked(adapter) else 2)
    sampler = sampler or Greedy()
    key = jax.random.key(0) if key is None else key
    stops = jnp.asarray(eos_ids, jnp.int32).reshape(-1)
    rows = tokens.shape[:-1]
    keys = row_keys(key, jnp.arange(rows[-1]))
    prompts = read_prompts(module, params, adapter, tokens, segment_ids)
    split = step_lib.pays(params)
    state = begin(
        module, params, prompts, jnp.broadcast_to(keys, (*rows, *keys.shape[1:])),
        jnp.zeros(rows, bool), stops, max_new_tokens=max_new_tokens, pad_id=pad_id, sampler=sampler,
        num_slots=max_new_tokens, split=split,
    )  # fmt: skip
    never = jnp.full(rows[:-1], rows[-1] + 1)
    return decode(
        module, step_lib.split_layers(params) if split else params, adapter, state, stops, never,
        pad_id=pad_id, sampler=sampler,
    ).output  # fmt: skip
