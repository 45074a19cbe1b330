"""Many adapters on one batch of prompts: greedy answers, and losses of given answers.

A batch has as many rows as asked for, rounded up to what the mesh divides; rows that hold no
prompt are dropped from the output.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorajax import sharding
from lorajax.models import Model
from lorajax.models.decoding import is_stacked
from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.tasks.batching import Batch, bucket, make_batch, pad_left, shape_of
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.tasks.task import Example
from lorajax.types import Adapter, Params


def decode_length(chat: ChatFormat, examples: Sequence[Example]) -> int:
    """Returns the tokens to decode so that answers like those of `examples` fit.

    Args:
      chat: the model's tokenizer and template.
      examples: with answers; training rows, never those that are to be scored.
    """
    return bucket(max(len(chat.encode_answer(e.prompt, e.answer)) for e in examples))


def generate_batch(
    model: Model,
    chat: ChatFormat,
    adapter: Adapter | None,
    rows: Sequence[Encoded],
    batch_size: int,
    max_len: int,
    max_new_tokens: int,
) -> np.ndarray:
    """Continues a batch of prompts greedily.

    Args:
      model: the base.
      chat: its tokenizer and stop ids.
      adapter: None, one adapter, or adapters stacked on A.
      rows: at most `batch_size` prompts; they keep their last `max_len` tokens.
      batch_size: B, rows of the compiled batch, before it is rounded up for the mesh.
      max_len: tokens of a prompt.
      max_new_tokens: M.

    Returns:
      int32[A, len(rows), M] generated tokens; A = 1 without stacked adapters.
    """
    prompts = [row.prompt[-max_len:] for row in rows]
    length = bucket(max(len(prompt) for prompt in prompts))
    size = sharding.pad_rows(model.mesh, batch_size)
    tokens, mask = _on_mesh(model, pad_left(prompts, size, length, chat.pad_id))
    output = model.generate(
        tokens,
        mask,
        adapter,
        max_new_tokens=max_new_tokens,
        eos_ids=chat.stop_ids,
        pad_id=chat.pad_id,
    )
    return np.asarray(output).reshape(-1, size, max_new_tokens)[:, : len(rows)]


def answer_nll(
    model: Model, adapter: Adapter | None, examples: Sequence[Encoded], rows: int, pad_id: int
) -> np.ndarray:
    """Returns the teacher-forced loss of each example's answer.

    Args:
      model: the base.
      adapter: None, one adapter, or adapters stacked on A.
      examples: at most `rows`.
      rows: B, rows of the compiled batch, before it is rounded up for the mesh.
      pad_id: fills the batch.

    Returns:
      float32[len(examples)] or float32[A, len(examples)], nats per answer token.
    """
    length, targets = (bucket(n) for n in shape_of(examples))
    batch = make_batch(examples, sharding.pad_rows(model.mesh, rows), length, targets, pad_id)
    if is_stacked(adapter):
        count = jax.tree.leaves(adapter)[0].shape[0]
        batch = Batch(*(np.broadcast_to(x, (count, *x.shape)) for x in batch))
    nll = _mean_nll(model.module, model.params, adapter, _on_mesh(model, batch))
    return np.asarray(nll)[..., : len(examples)]


@functools.partial(jax.jit, static_argnames=('module',))
def _mean_nll(
    module: Transformer, params: Params, adapter: Adapter | None, batch: Batch
) -> jax.Array:
    """Returns float32[(A,) B], nats per answer token."""
    total = target_nll(module, params, adapter, *batch).sum(axis=-1)
    return total / jnp.maximum(batch.target_mask.sum(axis=-1), 1.0)


def _on_mesh(model: Model, batch: Any) -> Any:
    """Places arrays [(A,) B, ...] with their rows over the mesh's data and fsdp axes."""

    def place(array: np.ndarray, axis: int) -> jax.Array:
        axes: list[str | None] = [None] * array.ndim
        axes[axis] = 'batch'
        return jax.device_put(array, sharding.sharding(model.mesh, *axes))

    return jax.tree.map(lambda array: place(array, array.ndim - 2), batch)
