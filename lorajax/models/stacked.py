"""The forward pass with no adapter, one adapter, or several stacked on a leading axis."""

from typing import Any

import jax

from lorajax.models import cache as cache_lib
from lorajax.models.transformer import Transformer
from lorajax.types import Adapter, Params


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
    slot: jax.Array | int = 0,
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
      slot: int32[], the cache's slot that is written next.

    Returns:
      Hidden states [(A,) B, T, D] and keys and values [L, (A,) B, T, K, H] or None.
    """

    def one(adapter: Adapter | None, *args: Any) -> tuple[jax.Array, Any]:
        variables = {'params': params, 'lora': adapter} if adapter else {'params': params}
        return module.apply(variables, *args, return_kv=return_kv, slot=slot)

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
