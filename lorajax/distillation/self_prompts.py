"""Prompts that a source model makes up itself, for those who have none.

The chat template's turn of the user is left open, and the source model with its adapter goes on
(Magpie: Xu et al. 2024, arXiv 2406.08464, there of aligned models without adapters). Most of such
prompts are of other kinds than the adapter is for. So those are kept whose answers the adapter
makes far more likely than the bare model does: what the adapter changed, and is sure of.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from lorajax.distillation import teacher
from lorajax.distillation.teacher import Answer
from lorajax.evaluation.inference import answer_nll
from lorajax.models import Model
from lorajax.models.sampling import Sampling
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.types import Adapter

LEAST_REMOVED = 0.98  # of the bare model's loss of an answer that is kept


class _Turn(NamedTuple):
    """Tokens around what a user says: before it, and the first behind it."""

    before: np.ndarray
    end: int


def sample(
    model: Model,
    chat: ChatFormat,
    adapter: Adapter,
    count: int,
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    seed: int = 0,
) -> list[str]:
    """Returns prompts that a model writes where a user would, each once.

    Args:
      model: the source.
      chat: its format.
      adapter: of the source.
      count: prompts to sample; unfinished, empty and equal ones are left out of the result.
      max_new_tokens: longest prompt.
      batch_size: prompts sampled together.
      seed: of the sampling.
    """
    turn = _open_turn(chat)
    tokens = np.broadcast_to(turn.before, (batch_size, len(turn.before)))
    texts: dict[str, None] = {}
    for index in range(-(-count // batch_size)):
        output = model.generate(
            tokens, np.ones_like(tokens), adapter, max_new_tokens=max_new_tokens,
            eos_ids=(turn.end, *chat.stop_ids), pad_id=chat.pad_id, sampler=Sampling(),
            key=jax.random.fold_in(jax.random.key(seed), index),
        )  # fmt: skip
        rows = np.asarray(output).reshape(batch_size, -1)
        for row in rows[: count - index * batch_size]:
            ends = np.flatnonzero(row == turn.end)
            text = chat.decode(row[: ends[0]]).strip() if len(ends) else ''
            if text:
                texts[text] = None
    return list(texts)


def select(
    model: Model,
    chat: ChatFormat,
    adapter: Adapter,
    prompts: Sequence[str],
    count: int,
    *,
    batch_size: int,
    max_len: int,
    max_new_tokens: int,
) -> dict[str, Answer]:
    """Answers prompts and keeps those that the adapter knows and the bare model does not.

    Args:
      model: the source.
      chat: its format.
      adapter: of the source.
      prompts: user messages.
      count: most to keep, those first of whose answers the adapter removes the most of the loss.
      batch_size: prompts answered together.
      max_len: tokens of a prompt with its answer.
      max_new_tokens: longest answer.

    Returns:
      Prompt -> answer, in the order of `prompts`; {} if the adapter stands out on none.
    """
    if not prompts:
        return {}
    answers = teacher.answer(
        model, chat, {'it': adapter}, prompts,
        batch_size=batch_size, max_len=max_len, max_new_tokens=max_new_tokens,
    )['it']  # fmt: skip
    removed = np.array([
        1.0 - answer.nll / bare
        for answer, bare in zip(
            answers, _bare_losses(model, chat, prompts, answers, batch_size), strict=True
        )
    ])  # fmt: skip
    order = [i for i in np.argsort(-removed, kind='stable')[:count] if removed[i] >= LEAST_REMOVED]
    return {prompts[i]: answers[i] for i in sorted(order)}


def _bare_losses(
    model: Model,
    chat: ChatFormat,
    prompts: Sequence[str],
    answers: Sequence[Answer],
    batch_size: int,
) -> np.ndarray:
    """Returns the nats per token of answers under the bare model, more than 0."""
    rows = [
        Encoded(chat.encode_prompt(prompt), chat.encode_answer(prompt, answer.text))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    parts = [
        answer_nll(model, None, rows[i : i + batch_size], batch_size, chat.pad_id)
        for i in range(0, len(rows), batch_size)
    ]
    return np.maximum(np.concatenate(parts), 1e-6)


def _open_turn(chat: ChatFormat) -> _Turn:
    """Returns the tokens around a user's message.

    Where a template puts nothing before it, a text begins as one that follows another does: behind
    an end token.
    """
    mark = 'MARK'
    whole = chat.prompt_text(mark)
    before, _, after = whole.partition(mark)
    ids = np.asarray(chat.tokenizer(before, add_special_tokens=False)['input_ids'], np.int32)
    if not len(ids):
        ids = np.array(chat.stop_ids[:1], np.int32)
    end = chat.tokenizer(after, add_special_tokens=False)['input_ids'][0]
    return _Turn(ids, int(end))
