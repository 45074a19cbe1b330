"""Prompts, read once for whatever is to follow them: decoding, or scores of given answers."""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from lorajax.models import step as step_lib
from lorajax.models.stacked import forward, is_stacked
from lorajax.models.transformer import Transformer
from lorajax.types import Adapter, Params


@flax.struct.dataclass
class Prompts:
    """What is kept of prompts that were read.

    Attributes:
      hidden: [(A,) B, D], after each prompt's last token, ready for `unembed`.
      k: [L, (A,) B, T, K, H], keys after rotation.
      v: [L, (A,) B, T, K, H].
      valid: bool[(A,) B, T], False for padding.
    """

    hidden: jax.Array
    k: jax.Array
    v: jax.Array
    valid: jax.Array


# Tokens of prompts that one CPU reads at a time, so that their activations stay in its caches: of
# eight adapters x 32 prompts of 64 tokens, 896 wide, it takes 4.7 CPU seconds, and 7.3 at once.
_PIECE = 1024


def read_prompts(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    segment_ids: jax.Array,
) -> Prompts:
    """Reads prompts once, for whatever is to follow them.

    Args:
      module: the decoder.
      params: base weights.
      adapter: None, one adapter, or adapters stacked on A.
      tokens: int32[(A,) B, T], padded on the left.
      segment_ids: int32[(A,) B, T], 0 for padding, 1 for prompt.
    """
    rows, length = tokens.shape[-2:]
    in_pieces = step_lib.is_on_one_cpu(params)
    if in_pieces:
        fitting = max(_PIECE // length, 1)
        rows = max(n for n in range(1, min(rows, fitting) + 1) if rows % n == 0)
    return read_jit(module, params, adapter, tokens, segment_ids, rows=rows, in_pieces=in_pieces)


@functools.partial(jax.jit, static_argnames=('module', 'rows', 'in_pieces'))
def read_jit(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    segment_ids: jax.Array,
    *,
    rows: int,
    in_pieces: bool,
) -> Prompts:
    """Reads prompts at once, or one adapter and `rows` prompts after the other.

    Args are those of `read_prompts`, and:
      rows: prompts at a time, where they are read in pieces.
      in_pieces: whether they are.
    """

    def read(adapter: Adapter | None, tokens: jax.Array, segment_ids: jax.Array) -> Prompts:
        hidden, (k, v) = forward(module, params, adapter, tokens, segment_ids, return_kv=True)
        return Prompts(hidden[..., -1, :], k, v, segment_ids > 0)

    def by_rows(arguments: tuple[Adapter | None, jax.Array, jax.Array]) -> Prompts:
        adapter, *batch = arguments
        pieces = tuple(x.reshape(-1, rows, x.shape[-1]) for x in batch)
        if len(pieces[0]) == 1:
            return read(adapter, *batch)
        found = jax.lax.map(lambda piece: read(adapter, *piece), pieces)
        return Prompts(_join(found.hidden, 0), _join(found.k, 1), _join(found.v, 1),
                       _join(found.valid, 0))  # fmt: skip

    if not in_pieces:
        return read(adapter, tokens, segment_ids)
    if not is_stacked(adapter):
        return by_rows((adapter, tokens, segment_ids))
    found = jax.lax.map(by_rows, (adapter, tokens, segment_ids))
    return found.replace(k=found.k.swapaxes(0, 1), v=found.v.swapaxes(0, 1))


def _join(array: jax.Array, axis: int) -> jax.Array:
    """Puts pieces [P, ...] one after the other along an axis of theirs."""
    moved = jnp.moveaxis(array, 0, axis)
    return moved.reshape(*moved.shape[:axis], -1, *moved.shape[axis + 2 :])
