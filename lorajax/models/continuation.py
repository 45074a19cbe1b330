"""The loss of given answers to prompts that were read already.

Decoding and scoring share the reading of a prompt, and so do all answers to one prompt.
"""

import functools

import jax
import jax.numpy as jnp

from lorajax.models import cache as cache_lib
from lorajax.models.loss import token_nll
from lorajax.models.prompts import Prompts
from lorajax.models.stacked import forward
from lorajax.models.transformer import Transformer, unembedding
from lorajax.types import Adapter, Params


@functools.partial(jax.jit, static_argnames=('module',))
def continuation_nll(
    module: Transformer,
    params: Params,
    adapter: Adapter | None,
    prompts: Prompts,
    tokens: jax.Array,
    segment_ids: jax.Array,
    target_mask: jax.Array,
) -> jax.Array:
    """Returns the loss of given answers to prompts that were read already.

    Args:
      module: the decoder.
      params: base weights.
      adapter: with which the prompts were read.
      prompts: from `read_prompts`.
      tokens: int32[(A,) B, M], answers, padded on the right.
      segment_ids: int32[(A,) B, M], 1 for tokens of the answer, 0 for padding.
      target_mask: float32[(A,) B, M], 1 for tokens that count.

    Returns:
      float32[(A,) B, M], nats, 0 where the mask is 0.
    """
    before = prompts.hidden[..., None, :]
    if tokens.shape[-1] > 1:  # what follows the last token is never asked for
        hidden, _ = forward(
            module,
            params,
            adapter,
            tokens[..., :-1],
            segment_ids[..., :-1],
            prompts.valid.sum(axis=-1)[..., None] + jnp.arange(tokens.shape[-1] - 1),
            cache_lib.from_prompts((prompts.k, prompts.v), prompts.valid, num_slots=0),
        )
        before = jnp.concatenate([before, hidden], axis=-2)
    softcap = module.config.logit_softcap
    nll = token_nll(unembedding(params), before, tokens, softcap, module.mesh)
    return nll * target_mask
