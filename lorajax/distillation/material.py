"""What a rung of the ladder learns and is checked on: answered prompts, in the target's tokens."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorajax.distillation import pseudo_labels
from lorajax.distillation.teacher import Answer
from lorajax.errors import ArgumentError, InputError
from lorajax.evaluation.inference import answer_nll
from lorajax.models import Model
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.tasks.task import Prompt
from lorajax.types import Adapter

LEAST_TO_CHECK = 8  # answers of which a quarter is kept out


class Row(NamedTuple):
    """An answered prompt in the target's tokens.

    Attributes:
      encoded: prompt and answer.
      trust: how much it counts, in [0, 1].
      floor: nats per token of the target under the model that gave the answer; 0 for labels.
    """

    encoded: Encoded
    trust: float = 1.0
    floor: float = 0.0


class Material(NamedTuple):
    """What an adapter is fitted to, and what it is checked on.

    Attributes:
      learn: rows of the fit.
      check: rows that are kept out of it; none of fewer than `LEAST_TO_CHECK`.
      is_backed: whether pairs of adapters spoke for these answers; see `pseudo_labels.Trust`.
    """

    learn: list[Row]
    check: list[Row]
    is_backed: bool = True


class Agreement(NamedTuple):
    """Losses of the anchors' answers to the prompts, float[A, N], nats per token.

    Attributes:
      own: under the source model with the anchor's adapter, which gave them; inf if unfinished.
      pair: under the target with the anchor's other adapter.
    """

    own: np.ndarray
    pair: np.ndarray


def split(rows: list[Row], is_backed: bool = True) -> Material:
    """Keeps every fourth row out, if there are enough."""
    if len(rows) < LEAST_TO_CHECK:
        return Material(rows, [], is_backed)
    return Material([row for i, row in enumerate(rows) if i % 4 != 3], rows[3::4], is_backed)


def answer_losses(
    model: Model, adapter: Adapter | None, rows: Sequence[Encoded], batch_size: int, pad_id: int
) -> np.ndarray:
    """Returns float[rows], nats per token of each answer."""
    size = min(batch_size, max(len(rows), 1))
    parts = [
        answer_nll(model, adapter, rows[i : i + size], size, pad_id)
        for i in range(0, len(rows), size)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def encode_answers(
    chat: ChatFormat, name: str, prompts: Sequence[str | Prompt], answers: Sequence[Answer]
) -> list[Encoded]:
    """Returns a teacher's answers in the tokens of another model."""
    return [
        chat.encode(pseudo_labels.example(name, prompt, answer.text))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def agreement(
    model: Model,
    chat: ChatFormat,
    prompts: Sequence[str | Prompt],
    answers: Mapping[str, Sequence[Answer]],
    target: Mapping[str, Adapter],
    batch_size: int,
) -> Agreement:
    """Looks at how well pairs of adapters agree on the prompts.

    Args:
      model: the target.
      chat: its format.
      prompts: N user messages.
      answers: of the source with the anchors' adapters, by task; those that lack are left out.
      target: the anchors' adapters of the target, by task.
      batch_size: answers scored together.
    """
    own, pair = [], []
    for task, adapter in target.items():
        if task not in answers:
            continue
        rows = encode_answers(chat, task, prompts, answers[task])
        own.append([answer.nll for answer in answers[task]])
        pair.append(answer_losses(model, adapter, rows, batch_size, chat.pad_id))
    shape = -1, len(prompts)
    return Agreement(np.reshape(own, shape), np.reshape(pair, shape))


def trusted(
    model: Model,
    chat: ChatFormat,
    name: str,
    prompts: Sequence[str | Prompt],
    answers: Sequence[Answer],
    agreed: Agreement,
    batch_size: int,
    max_len: int,
) -> Material | None:
    """Returns the answers of one adapter that are worth learning; None if there are none.

    Args:
      model: the target.
      chat: its format.
      name: of the adapter, for messages.
      prompts: N user messages.
      answers: to them.
      agreed: what pairs of adapters make of the prompts.
      batch_size: answers scored together.
      max_len: tokens of a prompt with its answer.

    Raises:
      InputError: if no answer is finished.
      ArgumentError: if none fits into `max_len`.
    """
    if not any(np.isfinite(answer.nll) for answer in answers):
        raise InputError(
            f'{name}: the source model with its adapter finished none of {len(prompts)} answers; '
            'allow longer answers, or give other prompts'
        )
    encoded = encode_answers(chat, name, prompts, answers)
    sizes = np.array([len(row.prompt) + len(row.answer) for row in encoded])
    fits = sizes <= max_len
    losses = np.where(fits, [answer.nll for answer in answers], np.inf)
    if not np.isfinite(losses).any():
        raise ArgumentError(
            'max_len', max_len,
            f'no answer fits with its prompt, the shortest has {sizes.min()} tokens',
        )  # fmt: skip
    short = [row for row, is_short in zip(encoded, fits, strict=True) if is_short]
    plain = np.zeros(len(encoded))
    plain[fits] = answer_losses(model, None, short, batch_size, chat.pad_id)
    trust = pseudo_labels.trust(losses, plain, agreed.own, agreed.pair)
    rows = [
        Row(row, float(weight), answer.nll * answer.tokens / len(row.answer))
        for row, answer, weight in zip(encoded, answers, trust.weights, strict=True)
        if weight > 0
    ]
    return split(rows, trust.is_backed) if rows else None
