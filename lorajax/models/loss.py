"""Negative log-likelihood of chosen tokens: the training loss and the teacher-forced score."""

import chex
import jax
import jax.numpy as jnp

from lorajax.models.decoding import forward
from lorajax.models.transformer import Transformer, unembed
from lorajax.types import Adapter, Params


def target_nll(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    segment_ids: jax.Array,
    target_index: jax.Array,
    target_mask: jax.Array,
) -> jax.Array:
    """Returns the loss of each target token given everything before it.

    Only the positions before a target are unembedded: with a vocabulary of 150 thousand the
    logits of a prompt would cost more memory than all activations of a layer.

    Args:
      module: the decoder.
      params: base weights.
      adapter: None, one adapter, or adapters stacked on A.
      tokens: int32[(A,) B, T].
      segment_ids: int32[(A,) B, T].
      target_index: int32[(A,) B, M], where in its row each target token stands (>= 1).
      target_mask: float32[(A,) B, M], 1 for real targets, 0 for filling.

    Returns:
      float32[(A,) B, M], nats, 0 where the mask is 0.
    """
    chex.assert_equal_shape((tokens, segment_ids))
    chex.assert_equal_shape((target_index, target_mask))
    chex.assert_equal_shape_prefix((tokens, target_index), tokens.ndim - 1)
    hidden, _ = forward(module, params, adapter, tokens, segment_ids)
    before = jnp.take_along_axis(hidden, target_index[..., None] - 1, axis=-2)  # (A) B M D
    targets = jnp.take_along_axis(tokens, target_index, axis=-1)
    logits = unembed(params, before)  # (A) B M V
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (jax.nn.logsumexp(logits, axis=-1) - chosen) * target_mask
