"""Answers of the source model with its adapters, and how sure it is of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorajax.evaluation.inference import answer_nll, generate_batch
from lorajax.lora import pad_rank, stack
from lorajax.models import Model
from lorajax.progress import Progress
from lorajax.tasks.chat import ChatFormat, Encoded
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
    prompts: Sequence[str],
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
      prompts: user messages.
      batch_size: prompts decoded together.
      max_len: tokens; prompts keep their last `max_len`.
      max_new_tokens: longest answer.

    Returns:
      Task -> one answer per prompt.
    """
    rank = max(e['a'].shape[-1] for a in adapters.values() for e in a['layers'].values())
    stacked = stack([pad_rank(adapter, rank) for adapter in adapters.values()])
    encoded = [Encoded(chat.encode_prompt(p), np.zeros(0, np.int32)) for p in prompts]
    order = np.argsort([len(e.prompt) for e in encoded], kind='stable')
    answers = {task: [Answer('', np.inf, 0)] * len(prompts) for task in adapters}
    with Progress('answer', len(prompts) * len(adapters)) as progress:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            rows = [encoded[i] for i in batch]
            tokens = generate_batch(model, chat, stacked, rows, batch_size, max_len, max_new_tokens)
            for slot, task in enumerate(adapters):
                said = [_until_stop(chat, ids) for ids in tokens[slot]]
                spoken = [Encoded(row.prompt, ids) for row, ids in zip(rows, said, strict=True)]
                nll = answer_nll(model, adapters[task], spoken, batch_size, chat.pad_id)
                for index, ids, loss in zip(batch, said, nll, strict=True):
                    text = chat.decode(ids).strip()
                    is_whole = bool(text) and np.isin(ids[-1], chat.stop_ids)
                    known = float(loss) if is_whole else np.inf
                    answers[task][index] = Answer(text, known, len(ids))
            progress.update(len(batch) * len(adapters))
    return answers


def _until_stop(chat: ChatFormat, ids: np.ndarray) -> np.ndarray:
    """Cuts int32[M] generated tokens behind the first stop id."""
    stops = np.flatnonzero(np.isin(ids, chat.stop_ids))
    return ids[: stops[0] + 1] if len(stops) else ids
