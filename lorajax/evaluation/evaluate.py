"""Outcomes of many adapters on one task: decoded, scored, and teacher-forced."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from lorajax import processes
from lorajax.errors import ArgumentError, InputError
from lorajax.evaluation import choices, continuous
from lorajax.evaluation.inference import losses_after_prompts
from lorajax.evaluation.outcomes import Row, storable
from lorajax.lora import pad_rank, stack
from lorajax.models import Model
from lorajax.progress import Progress, meet
from lorajax.tasks import scoring
from lorajax.tasks.chat import ChatFormat
from lorajax.tasks.task import Example, Task
from lorajax.types import Adapter


class _Answers(NamedTuple):
    """What one adapter answered to N items.

    Attributes:
      texts: N predictions.
      cut: N truth values, whether the answer ended at the limit and not by a stop id.
      nll: float32[N], loss of the reference answers, nats per answer token.
      picks: N of {reading: right}, see `choices.read`; empty where the task has no choices.
    """

    texts: list[str]
    cut: list[bool]
    nll: np.ndarray
    picks: list[dict[str, bool]]


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
) -> list[Row]:
    """Scores every adapter on every item; all adapters decode the same batch at once.

    Args:
      model: the base.
      chat: its tokenizer and template.
      task: names the scorer.
      examples: the items.
      adapters: by the name that goes into the outcomes; None is the base model.
      batch_size: rows of each adapter that decode at once; rounded up to what the mesh divides.
      max_len: tokens; prompts keep their last `max_len`, for decoding and for the loss of the
        reference.
      max_new_tokens: tokens decoded per item; see `inference.decode_length`.
      adapters_per_step: adapters per batch; 0 for all.
      allow_code_execution: see `scoring.score_batch`.

    Returns:
      Rows as `outcomes` describes them and can store them, method by method, items in the order
      of `examples`. Details of multiple choice also hold `choices.READINGS`.

    Raises:
      InputError: if there is nothing to evaluate.
      ArgumentError: if `max_new_tokens` is below 1.
    """
    if not examples:
        raise InputError(f'task {task.name}: no items to evaluate')
    if max_new_tokens < 1:
        raise ArgumentError('max_new_tokens', max_new_tokens, 'expected 1 or more')
    encoded = [chat.encode(example) for example in examples]
    names = list(adapters)
    size = adapters_per_step or len(names)
    answers: dict[str, _Answers] = {}
    with Progress(f'evaluate {task.name}', len(examples) * len(names)) as progress:
        for group in (names[i : i + size] for i in range(0, len(names), size)):
            meet()
            stacked = _stack([adapters[name] for name in group])
            tokens, nll = continuous.answer(
                model, chat, stacked, encoded, batch_size=batch_size, max_len=max_len,
                max_new_tokens=max_new_tokens, on_done=progress.update,
            )  # fmt: skip
            picks: list[list[dict[str, bool]]] = [[{}] * len(examples) for _ in group]
            if task.scorer == 'letter':
                mean_loss = functools.partial(
                    losses_after_prompts, model, stacked, rows=batch_size, pad_id=chat.pad_id
                )
                picks = choices.read(chat, examples, mean_loss)
            for slot, name in enumerate(group):
                answers[name] = _Answers(
                    [chat.decode(ids) for ids in tokens[slot]],
                    [not np.isin(ids, chat.stop_ids).any() for ids in tokens[slot]],
                    nll[slot],
                    picks[slot],
                )
    # Programs that a model wrote run once, and not on every host.
    return processes.on_first(lambda: _judge(task, examples, answers, allow_code_execution))


def _judge(
    task: Task,
    examples: Sequence[Example],
    answers: Mapping[str, _Answers],
    allow_code_execution: bool,
) -> list[Row]:
    """Scores the answers of every adapter and returns them as rows."""
    names = list(answers)
    verdicts = scoring.score_batch(
        task.scorer,
        [example for _ in names for example in examples],
        [text for name in names for text in answers[name].texts],
        allow_code_execution=allow_code_execution,
    )
    return [
        storable(
            {
                'task': task.name,
                'method': name,
                'item': example.item,
                'correct': bool(verdict.correct),
                'prediction': answers[name].texts[i],
                'reference': example.reference,
                'nll': round(float(answers[name].nll[i]), 6),
                'details': {
                    **verdict.details,
                    'truncated': answers[name].cut[i],
                    **answers[name].picks[i],
                },
            }
        )
        for (name, (i, example)), verdict in zip(
            itertools.product(names, enumerate(examples)), verdicts, strict=True
        )
    ]


def _stack(adapters: Sequence[Adapter | None]) -> Adapter | None:
    """Stacks adapters of any ranks and targets; None stands for the base, a zero adapter."""
    real = [adapter for adapter in adapters if adapter]
    if not real:
        return None
    rank = max(entry['a'].shape[-1] for a in real for entry in a['layers'].values())
    wide = {id(adapter): pad_rank(adapter, rank) for adapter in real}
    zero = {
        name: jax.tree.map(np.zeros_like, entry)
        for adapter in wide.values()
        for name, entry in adapter['layers'].items()
    }
    return stack([{'layers': zero | (wide[id(one)]['layers'] if one else {})} for one in adapters])
