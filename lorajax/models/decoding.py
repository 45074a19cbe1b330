"""Generation: one prefill, then a compiled loop that adds a token to every row at once.

Rows are padded on the left, so all of them write to the same cache slot and the loop has no
per-row bookkeeping beyond "is this row finished". With stacked adapters every adapter
decodes the same prompts in the same loop; base weights are read once a step for all.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp

from lorajax.models import cache as cache_lib
from lorajax.models.transformer import Transformer, unembed
from lorajax.types import Adapter, Params


@dataclasses.dataclass(frozen=True)
class Greedy:
    """Takes the most likely token."""

    def __call__(self, logits: jax.Array, key: jax.Array) -> jax.Array:
        """Maps float32[..., V] logits to int32[...] tokens."""
        del key
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Draws from the tempered distribution, restricted to its top part.

    Attributes:
      temperature: > 0; logits are divided by it.
      top_k: only the k most likely tokens; 0 for all.
      top_p: only the fewest tokens whose probability reaches p; 1 for all.

    Source: Holtzman et al. 2020 (nucleus sampling).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __call__(self, logits: jax.Array, key: jax.Array) -> jax.Array:
        """Maps float32[..., V] logits to int32[...] tokens."""
        logits = logits / self.temperature
        if self.top_k:
            smallest = jax.lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits < smallest, -jnp.inf, logits)
        if self.top_p < 1.0:
            ordered = jnp.sort(logits, axis=-1, descending=True)
            probs = jax.nn.softmax(ordered, axis=-1)
            is_kept = jnp.cumsum(probs, axis=-1) - probs < self.top_p
            smallest = jnp.min(jnp.where(is_kept, ordered, jnp.inf), axis=-1, keepdims=True)
            logits = jnp.where(logits < smallest, -jnp.inf, logits)
        return jax.random.categorical(key, logits).astype(jnp.int32)


Sampler = Callable[[jax.Array, jax.Array], jax.Array]


@flax.struct.dataclass
class DecodeState:
    """What the decode loop carries.

    Attributes:
      step: int32[], number of tokens generated so far (all rows alike).
      output: int32[(A,) B, max_new_tokens], filled up to `step`, pad id beyond a stop id.
      last: int32[(A,) B], the newest token, not yet in the cache.
      position: int32[(A,) B], the position of `last`.
      is_done: bool[(A,) B], whether the row has produced a stop id.
      cache: keys and values of everything before `last`.
      key: PRNG key.
    """

    step: jax.Array
    output: jax.Array
    last: jax.Array
    position: jax.Array
    is_done: jax.Array
    cache: cache_lib.Cache
    key: jax.Array


def is_stacked(adapter: Adapter | None) -> bool:
    """Returns whether an adapter tree has a leading axis of several adapters."""
    leaves = jax.tree.leaves(adapter)
    return bool(leaves) and leaves[0].ndim == 4


def forward(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    segment_ids: jax.Array,
    positions: jax.Array | None = None,
    cache: cache_lib.Cache | None = None,
    return_kv: bool = False,
) -> tuple[jax.Array, Any]:
    """Runs the decoder with no adapter, one adapter, or adapters stacked on A.

    Args:
      module: the decoder.
      params: base weights.
      adapter: None, a tree, or a tree whose leaves have a leading axis A.
      tokens: int32[B, T]; int32[A, B, T] with stacked adapters.
      segment_ids: like `tokens`.
      positions: like `tokens`, or None.
      cache: the cache to attend to, or None.
      return_kv: whether to return new keys and values.

    Returns:
      Hidden states [(A,) B, T, D] and keys and values [L, (A,) B, T, K, H] or None.
    """

    def one(adapter: Adapter | None, *args: Any) -> tuple[jax.Array, Any]:
        variables = {'params': params, 'lora': adapter} if adapter else {'params': params}
        return module.apply(variables, *args, return_kv=return_kv)

    if not is_stacked(adapter):
        return one(adapter, tokens, segment_ids, positions, cache)
    in_axes = (
        0,
        0,
        0,
        None if positions is None else 0,
        None if cache is None else cache_lib.ADAPTER_AXES,
    )
    many = jax.vmap(one, in_axes=in_axes, out_axes=(0, 1 if return_kv else None))
    return many(adapter, tokens, segment_ids, positions, cache)


def _advance(
    state: DecodeState,
    params: Params,
    hidden: jax.Array,
    eos_ids: jax.Array,
    pad_id: int,
    sampler: Sampler,
) -> DecodeState:
    """Chooses the next token of every row from hidden states [(A,) B, D] and records it."""
    key, subkey = jax.random.split(state.key)
    token = sampler(unembed(params, hidden), subkey)
    token = jnp.where(state.is_done, pad_id, token)
    output = jax.lax.dynamic_update_slice_in_dim(
        state.output, token[..., None], state.step, axis=-1
    )
    is_stop = (token[..., None] == eos_ids).any(axis=-1)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        output=output,
        last=token,
        position=state.position + 1,
        is_done=state.is_done | is_stop,
        key=key,
    )


@functools.partial(jax.jit, static_argnames=('module', 'max_new_tokens', 'pad_id', 'sampler'))
def prefill(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    segment_ids: jax.Array,
    eos_ids: jax.Array,
    key: jax.Array,
    *,
    max_new_tokens: int,
    pad_id: int,
    sampler: Sampler,
) -> DecodeState:
    """Reads the prompts and chooses the first new token of every row.

    Args:
      tokens: int32[(A,) B, T], padded on the left.
      segment_ids: int32[(A,) B, T], 0 for padding, 1 for prompt.
      Others: as in `generate`.

    Returns:
      The state that `decode` continues.
    """
    hidden, kv = forward(module, params, adapter, tokens, segment_ids, return_kv=True)
    rows = tokens.shape[:-1]
    state = DecodeState(
        step=jnp.int32(0),
        output=jnp.full((*rows, max_new_tokens), pad_id, jnp.int32),
        last=jnp.zeros(rows, jnp.int32),
        position=jnp.sum(segment_ids > 0, axis=-1, dtype=jnp.int32) - 1,
        is_done=jnp.zeros(rows, bool),
        cache=cache_lib.from_prefill(kv, segment_ids, max_new_tokens),
        key=key,
    )
    return _advance(state, params, hidden[..., -1, :], eos_ids, pad_id, sampler)


@functools.partial(
    jax.jit, static_argnames=('module', 'pad_id', 'sampler'), donate_argnames=('state',)
)
def decode(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    state: DecodeState,
    eos_ids: jax.Array,
    *,
    pad_id: int,
    sampler: Sampler,
) -> DecodeState:
    """Adds tokens until every row has met a stop id or the output is full.

    Args:
      state: from `prefill`; donated, its cache is updated in place.
      Others: as in `generate`.

    Returns:
      The final state; it takes over the donated buffers.
    """
    max_new_tokens = state.output.shape[-1]
    prompt_slots = state.cache.valid.shape[-1] - max_new_tokens

    def is_unfinished(state: DecodeState) -> jax.Array:
        return (state.step < max_new_tokens) & ~state.is_done.all()

    def step(state: DecodeState) -> DecodeState:
        hidden, kv = forward(
            module,
            params,
            adapter,
            state.last[..., None],
            jnp.ones_like(state.last[..., None]),
            state.position[..., None],
            state.cache,
            return_kv=True,
        )
        cache = cache_lib.write(state.cache, kv, prompt_slots + state.step - 1)
        state = dataclasses.replace(state, cache=cache)
        return _advance(state, params, hidden[..., 0, :], eos_ids, pad_id, sampler)

    return jax.lax.while_loop(is_unfinished, step, state)


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
      key: PRNG key for the sampler.

    Returns:
      int32[(A,) B, max_new_tokens], the new tokens including the stop id.
    """
    chex.assert_equal_shape((tokens, segment_ids))
    chex.assert_rank(tokens, 3 if is_stacked(adapter) else 2)
    sampler = sampler or Greedy()
    key = jax.random.key(0) if key is None else key
    stops = jnp.asarray(eos_ids, jnp.int32).reshape(-1)
    state = prefill(
        module, params, adapter, tokens, segment_ids, stops, key,
        max_new_tokens=max_new_tokens, pad_id=pad_id, sampler=sampler,
    )  # fmt: skip
    return decode(module, params, adapter, state, stops, pad_id=pad_id, sampler=sampler).output
