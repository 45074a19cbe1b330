"""Outcomes of many adapters on one task: decoded, scored, and teacher-forced."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorajax import sharding
from lorajax.errors import InputError
from lorajax.evaluation import choices
from lorajax.lora import pad_rank, stack
from lorajax.models import Model
from lorajax.models.decoding import is_stacked
from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.progress import Progress
from lorajax.tasks import scoring
from lorajax.tasks.batching import Batch, bucket, make_batch, pad_left, shape_of
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.tasks.task import Example, Task
from lorajax.types import Adapter, Params

Outcomes = list[dict[str, Any]]


@functools.partial(jax.jit, static_argnames=('module',))
def _mean_nll(
    module: Transformer, params: Params, adapter: Adapter | None, batch: Batch
) -> jax.Array:
    """Returns float32[(A,) B], nats per answer token."""
    total = target_nll(module, params, adapter, *batch).sum(axis=-1)
    return total / jnp.maximum(batch.target_mask.sum(axis=-1), 1.0)


def answer_nll(
    model: Model, adapter: Adapter | None, examples: Sequence[Encoded], rows: int, pad_id: int
) -> np.ndarray:
    """Returns the teacher-forced loss of each example's answer.

    Args:
      model: the base.
      adapter: None, one adapter, or adapters stacked on A.
      examples: at most `rows`.
      rows: B, the compiled batch size.
      pad_id: fills the batch.

    Returns:
      float32[len(examples)] or float32[A, len(examples)], nats per answer token.
    """
    length, targets = (bucket(n) for n in shape_of(examples))
    batch = make_batch(examples, rows, length, targets, pad_id)
    if is_stacked(adapter):
        count = jax.tree.leaves(adapter)[0].shape[0]
        batch = Batch(*(np.broadcast_to(x, (count, *x.shape)) for x in batch))
    nll = _mean_nll(model.module, model.params, adapter, _on_mesh(model, batch))
    return np.asarray(nll)[..., : len(examples)]


def _on_mesh(model: Model, batch: Any) -> Any:
    """Places arrays [(A,) B, ...] with their rows over the mesh's data and fsdp axes."""

    def place(array: np.ndarray, axis: int) -> jax.Array:
        axes: list[str | None] = [None] * array.ndim
        axes[axis] = 'batch'
        return jax.device_put(array, sharding.sharding(model.mesh, *axes))

    return jax.tree.map(lambda array: place(array, array.ndim - 2), batch)


def evaluate(
    model: Model,
    chat: ChatFormat,
    task: Task,
    examples: Sequence[Example],
    adapters: Mapping[str, Adapter | None],
    *,
    batch_size: int,
    max_len: int,
    max_new_tokens: int,
    adapters_per_step: int = 0,
    allow_code_execution: bool = False,
) -> Outcomes:
    """Scores every adapter on every item; all adapters decode the same batch at once.

    Args:
      model: the base.
      chat: its tokenizer and template.
      task: names the scorer.
      examples: the items.
      adapters: by the name that goes into the outcomes; None is the base model.
      batch_size: prompts per batch.
      max_len: tokens; prompts keep their last `max_len`.
      max_new_tokens: tokens decoded per item; 0 for the longest answer in `examples`.
      adapters_per_step: adapters per batch; 0 for all.
      allow_code_execution: see `scoring.score_batch`.

    Returns:
      Rows {"task", "method", "item", "correct", "prediction", "reference", "nll", "details"},
      method by method, items in the order of `examples`; nll in nats per answer token. Details
      of multiple choice also hold `choices.READINGS`.

    Raises:
      InputError: if there is nothing to evaluate.
    """
    if not examples:
        raise InputError(f'task {task.name}: no items to evaluate')
    encoded = [chat.encode(example) for example in examples]
    budget = max_new_tokens or bucket(max(len(e.answer) for e in encoded))
    names = list(adapters)
    size = adapters_per_step or len(names)
    groups = [names[i : i + size] for i in range(0, len(names), size)]
    order = np.argsort([len(e.prompt) for e in encoded], kind='stable')
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    texts: dict[str, list[str]] = {name: [''] * len(examples) for name in names}
    losses: dict[str, list[float]] = {name: [0.0] * len(examples) for name in names}
    cut: dict[str, list[bool]] = {name: [False] * len(examples) for name in names}
    picks: dict[str, list[dict[str, bool]]] = {name: [{}] * len(examples) for name in names}
    total = len(examples) * len(names)
    with Progress(f'evaluate {task.name}', total) as progress:
        for group in groups:
            stacked = _stack([adapters[name] for name in group])
            for batch in batches:
                rows = [encoded[i] for i in batch]
                tokens = generate_batch(model, chat, stacked, rows, batch_size, max_len, budget)
                nll = answer_nll(model, stacked, rows, batch_size, chat.pad_id)
                nll = nll.reshape(len(group), -1)
                for row, name in enumerate(group):
                    for column, index in enumerate(batch):
                        ids = tokens[row, column]
                        texts[name][index] = chat.decode(ids)
                        cut[name][index] = not np.isin(ids, chat.stop_ids).any()
                        losses[name][index] = float(nll[row, column])
                progress.update(len(group) * len(batch))
            if task.scorer == 'letter':
                mean_loss = functools.partial(
                    _mean_losses, model, stacked, batch_size, chat.pad_id, len(group)
                )
                picks |= zip(group, choices.read(chat, examples, mean_loss), strict=True)
    scored = scoring.score_batch(
        task.scorer,
        [example for _ in names for example in examples],
        [text for name in names for text in texts[name]],
        allow_code_execution=allow_code_execution,
    )
    return [
        {
            'task': task.name,
            'method': name,
            'item': example.item,
            'correct': bool(outcome.correct),
            'prediction': texts[name][i],
            'reference': example.reference,
            'nll': round(losses[name][i], 6),
            'details': {**outcome.details, 'truncated': cut[name][i], **picks[name][i]},
        }
        for (name, (i, example)), outcome in zip(
            itertools.product(names, enumerate(examples)), scored, strict=True
        )
    ]


def _mean_losses(
    model: Model,
    stacked: Adapter | None,
    rows: int,
    pad_id: int,
    adapters: int,
    examples: Sequence[Encoded],
) -> np.ndarray:
    """Returns float32[A, N] of any number of examples, batches of similar length together."""
    order = np.argsort([len(e.prompt) + len(e.answer) for e in examples], kind='stable')
    losses = np.zeros((adapters, len(examples)), np.float32)
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        found = answer_nll(model, stacked, [examples[i] for i in batch], rows, pad_id)
        losses[:, batch] = found.reshape(adapters, -1)
    return losses


def _stack(adapters: Sequence[Adapter | None]) -> Adapter | None:
    """Stacks adapters of different ranks; None stands for the base, a zero adapter."""
    real = [adapter for adapter in adapters if adapter]
    if not real:
        return None
    rank = max(entry['a'].shape[-1] for a in real for entry in a['layers'].values())
    wide = {id(adapter): pad_rank(adapter, rank) for adapter in real}
    zero = jax.tree.map(np.zeros_like, wide[id(real[0])])
    return stack([wide[id(adapter)] if adapter else zero for adapter in adapters])


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
      model, chat: the base, its tokenizer and stop ids.
      adapter: None, one adapter, or adapters stacked on A.
      rows: at most `batch_size` prompts; they keep their last `max_len` tokens.
      batch_size: B, the compiled batch size.
      max_len: tokens of a prompt.
      max_new_tokens: M.

    Returns:
      int32[A, len(rows), M] generated tokens; A = 1 without stacked adapters.
    """
    prompts = [row.prompt[-max_len:] for row in rows]
    length = bucket(max(len(prompt) for prompt in prompts))
    tokens, mask = pad_left(prompts, batch_size, length, chat.pad_id)
    tokens, mask = _on_mesh(model, (tokens, mask))
    output = model.generate(
        tokens,
        mask,
        adapter,
        max_new_tokens=max_new_tokens,
        eos_ids=chat.stop_ids,
        pad_id=chat.pad_id,
    )
    return np.asarray(output).reshape(-1, batch_size, max_new_tokens)[:, : len(rows)]
