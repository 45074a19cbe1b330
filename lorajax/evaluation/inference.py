"""Many adapters on one batch: the losses of given answers.

A batch has as many rows as asked for, rounded up to what the mesh divides; rows that hold no
prompt are dropped from the output.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorajax import processes, sharding
from lorajax.models import Model
from lorajax.models.continuation import continuation_nll
from lorajax.models.loss import target_nll
from lorajax.models.prompts import Prompts, read_prompts
from lorajax.models.stacked import is_stacked
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
    nll = _mean_nll(model.module, model.params, adapter, on_mesh(model, batch))
    return processes.to_host(nll)[..., : len(examples)]


def losses_after_prompts(
    model: Model, adapter: Adapter | None, examples: Sequence[Encoded], rows: int, pad_id: int
) -> np.ndarray:
    """Returns the losses of any number of answers; answers to one prompt share its reading.

    Args:
      model: the base.
      adapter: None, one adapter, or adapters stacked on A.
      examples: prompts, equal ones as often as they have answers, and answers.
      rows: B, prompts that are read together, before they are rounded up for the mesh.
      pad_id: fills the batch.

    Returns:
      float32[A, len(examples)], nats per answer token; A = 1 without stacked adapters.
    """
    answers_to: dict[bytes, list[int]] = {}
    for index, example in enumerate(examples):
        answers_to.setdefault(np.asarray(example.prompt, np.int32).tobytes(), []).append(index)
    # Short answers first, so that answers of similar length are scored together.
    turns = [sorted(g, key=lambda i: len(examples[i].answer)) for g in answers_to.values()]
    turns.sort(key=lambda group: len(examples[group[0]].prompt))
    count = jax.tree.leaves(adapter)[0].shape[0] if is_stacked(adapter) else 1
    losses = np.zeros((count, len(examples)), np.float32)
    size = sharding.pad_rows(model.mesh, rows)
    for batch in (turns[i : i + rows] for i in range(0, len(turns), rows)):
        prompts = [examples[group[0]].prompt for group in batch]
        padded = pad_left(prompts, size, bucket(max(map(len, prompts))), pad_id)
        read = read_prompts(
            model.module, model.params, adapter, *on_mesh(model, _repeated(adapter, padded))
        )
        for turn in range(max(map(len, batch))):
            given = [group[turn] for group in batch if turn < len(group)]
            places = [place for place, group in enumerate(batch) if turn < len(group)]
            padding: list[Encoded | None] = [None] * size
            for place, index in zip(places, given, strict=True):
                padding[place] = examples[index]
            found = losses_after(model, adapter, read, padding)
            losses[:, given] = found.reshape(count, size)[:, places]
    return losses


def losses_after(
    model: Model, adapter: Adapter | None, prompts: Prompts, examples: Sequence[Encoded | None]
) -> np.ndarray:
    """Returns the losses of answers to prompts that were read already.

    Args:
      model: the base.
      adapter: with which the prompts were read.
      prompts: [(A,) B].
      examples: B, or A times B one after the other; None where a row has no answer.

    Returns:
      float32[(A,) B], nats per answer token, 0 without an answer.
    """
    rows = prompts.valid.shape[:-1]
    longest = max((len(e.answer) for e in examples if e), default=0)
    if not longest:
        return np.zeros(rows, np.float32)
    # One token needs no pass of its own; the last token of an answer is never read.
    width = 1 if longest == 1 else bucket(longest - 1) + 1
    tokens = np.zeros((len(examples), width), np.int32)
    segment_ids, mask = np.zeros_like(tokens), np.zeros(tokens.shape, np.float32)
    for row, example in enumerate(examples):
        if example:
            tokens[row, : len(example.answer)] = example.answer
            segment_ids[row, : len(example.answer)] = 1
            mask[row, example.targets - len(example.prompt)] = 1.0
    batch: tuple[np.ndarray, ...] = tokens, segment_ids, mask
    if len(examples) == rows[-1]:
        batch = _repeated(adapter, batch)
    batch = tuple(array.reshape(*rows, width) for array in batch)
    nll = continuation_nll(model.module, model.params, adapter, prompts, *on_mesh(model, batch))
    counts = np.maximum(batch[2].sum(axis=-1), 1.0)
    return processes.to_host(nll).sum(axis=-1) / counts


def _repeated(adapter: Adapter | None, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Gives [B, N] arrays the axis A of stacked adapters."""
    if not is_stacked(adapter):
        return arrays
    count = jax.tree.leaves(adapter)[0].shape[0]
    return tuple(np.broadcast_to(array, (count, *array.shape)) for array in arrays)


@functools.partial(jax.jit, static_argnames=('module',))
def _mean_nll(
    module: Transformer, params: Params, adapter: Adapter | None, batch: Batch
) -> jax.Array:
    """Returns float32[(A,) B], nats per answer token."""
    total = target_nll(module, params, adapter, *batch).sum(axis=-1)
    return total / jnp.maximum(batch.target_mask.sum(axis=-1), 1.0)


def on_mesh(model: Model, batch: Any) -> Any:
    """Places arrays [(A,) B, N] over the mesh: adapters on its axis, rows on data and fsdp."""

    def place(array: np.ndarray) -> jax.Array:
        axes = ('adapters', 'batch', None)[-array.ndim :]
        return processes.place(array, sharding.divided(model.mesh, array.shape, axes))

    return jax.tree.map(place, batch)
