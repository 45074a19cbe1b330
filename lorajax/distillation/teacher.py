"""Answers of the source model with its adapters, and how sure it is of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorajax.evaluation import continuous
from lorajax.evaluation.inference import answer_nll
from lorajax.lora import pad_rank, stack
from lorajax.models import Model
from lorajax.progress import Progress
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.tasks.task import Example, Prompt
from lorajax.types import Adapter


class Answer(NamedTuple):
    """What a model says to a prompt.

    Attributes:
      text: without surrounding blanks.
      nll: nats per token of the answer, end token included, under the model that gave it; inf
        if it was cut off or is empty.
      tokens: of the answer, end token included, as that model counts them.
    """

    text: str
    nll: float
    tokens: int


def answer(
    model: Model,
    chat: ChatFormat,
    adapters: Mapping[str, Adapter],
    prompts: Sequence[str | Prompt],
    *,
    batch_size: int,
    max_len: int,
    max_new_tokens: int,
) -> dict[str, list[Answer]]:
    """Lets a model answer prompts greedily, with every adapter at once.

    Args:
      model: the source.
      chat: its tokenizer and template.
      adapters: by task; ranks may differ.
      prompts: user messages, with what is said before them.
      batch_size: prompts decoded together.
      max_len: tokens; prompts keep their last `max_len`.
      max_new_tokens: longest answer.

    Returns:
      Task -> one answer per prompt.
    """
    rank = max(e['a'].shape[-1] for a in adapters.values() for e in a['layers'].values())
    stacked = stack([pad_rank(adapter, rank) for adapter in adapters.values()])
    encoded = [Encoded(encode(chat, prompt), np.zeros(0, np.int32)) for prompt in prompts]
    with Progress('answer', len(prompts) * len(adapters)) as progress:
        tokens = continuous.answer(
            model, chat, stacked, encoded, batch_size=batch_size, max_len=max_len,
            max_new_tokens=max_new_tokens, on_done=progress.update,
        ).tokens  # fmt: skip
    return {
        task: _judged(model, chat, adapter, encoded, said, batch_size, max_len)
        for (task, adapter), said in zip(adapters.items(), tokens, strict=True)
    }


def encode(chat: ChatFormat, prompt: str | Prompt) -> np.ndarray:
    """Returns int32[P] tokens of a prompt.

    Raises:
      InputError: if it has context that the template cannot write.
    """
    if isinstance(prompt, Prompt) and prompt.context:
        probe = Example('a prompt', prompt.text, '-', '-', context=prompt.context)
        return chat.encode(probe).prompt
    return chat.encode_prompt(prompt.text if isinstance(prompt, Prompt) else prompt)


def _judged(
    model: Model,
    chat: ChatFormat,
    adapter: Adapter,
    prompts: Sequence[Encoded],
    tokens: np.ndarray,
    batch_size: int,
    max_len: int,
) -> list[Answer]:
    """Returns an adapter's answers, int32[N, M], with its own losses of them.

    Rows of similar length are scored together.
    """
    said = [_until_stop(chat, ids) for ids in tokens]
    spoken = [Encoded(row.prompt[-max_len:], ids) for row, ids in zip(prompts, said, strict=True)]
    order = np.argsort([len(e.prompt) + len(e.answer) for e in spoken], kind='stable')
    losses = np.zeros(len(spoken))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = [spoken[i] for i in batch]
        losses[batch] = answer_nll(model, adapter, rows, batch_size, chat.pad_id)
    answers = []
    for ids, loss in zip(said, losses, strict=True):
        text = chat.decode(ids).strip()
        is_whole = bool(text) and np.isin(ids[-1], chat.stop_ids)
        answers.append(Answer(text, float(loss) if is_whole else np.inf, len(ids)))
    return answers


def _until_stop(chat: ChatFormat, ids: np.ndarray) -> np.ndarray:
    """Cuts int32[M] generated tokens behind the first stop id."""
    stops = np.flatnonzero(np.isin(ids, chat.stop_ids))
    return ids[: stops[0] + 1] if len(stops) else ids
