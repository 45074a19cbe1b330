"""What a rung of the ladder learns and is checked on: answered prompts, in the target's tokens."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorajax.distillation import pseudo_labels
from lorajax.distillation.teacher import Answer
from lorajax.distillation.trust import Signs, trust
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
      is_backed: whether pairs of adapters spoke for these answers; see `trust.Trust`.
      left_out: finished answers that are not trusted.
    """

    learn: list[Row]
    check: list[Row]
    is_backed: bool = True
    left_out: int = 0


class Agreement(NamedTuple):
    """What anchors make of the prompts.

    Attributes:
      own: of their answers on the source model, [A, N].
      pair: float[A, N], nats per token of these under the target with the anchor's other adapter.
    """

    own: Signs
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
    responses: Mapping[str, np.ndarray],
    target: Mapping[str, Adapter],
    batch_size: int,
) -> Agreement:
    """Looks at how well pairs of adapters agree on the prompts.

    Args:
      model: the target.
      chat: its format.
      prompts: N user messages.
      answers: of the source with the anchors' adapters, by task; those that lack are left out.
      responses: of the anchors' source adapters, float[N] by task.
      target: the anchors' adapters of the target, by task.
      batch_size: answers scored together.
    """
    known = [task for task in target if task in answers]
    losses = [[answer.nll for answer in answers[task]] for task in known]
    pair = [
        answer_losses(
            model, target[task], encode_answers(chat, task, prompts, answers[task]),
            batch_size, chat.pad_id,
        )
        for task in known
    ]  # fmt: skip
    shape = len(known), len(prompts)
    heard = np.reshape([responses[task] for task in known], shape)
    return Agreement(Signs(np.reshape(losses, shape), heard), np.reshape(pair, shape))


def trusted(
    model: Model,
    chat: ChatFormat,
    name: str,
    prompts: Sequence[str | Prompt],
    answers: Sequence[Answer],
    responses: np.ndarray,
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
      responses: float[N], of the adapter to them.
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
    found = trust(Signs(losses, responses), plain, agreed.own, agreed.pair)
    rows = [
        Row(row, float(weight), answer.nll * answer.tokens / len(row.answer))
        for row, answer, weight in zip(encoded, answers, found.weights, strict=True)
        if weight > 0
    ]
    left_out = int(np.isfinite(losses).sum()) - len(rows)
    return split(rows, found.is_backed)._replace(left_out=left_out) if rows else None
