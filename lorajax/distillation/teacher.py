"""Translation through answers: the source model teaches the target model what its adapter does.

The source model with the adapter answers prompts that need not be of the adapter's task, and an
adapter of the target is trained on the answers it is surest of, from a translated adapter on.
Needs both base models and a short training, but no data of the task.

Source: the idea of Trans-LoRA (Wang et al. 2024, arXiv 2405.17258), there with synthetic prompts
and a trained discriminator; here any prompts, and the teacher's own certainty.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.evaluation.evaluate import answer_nll, generate_batch
from lorajax.lora import pad_rank, stack
from lorajax.models import Model
from lorajax.progress import Progress
from lorajax.tasks.batching import bucket
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.tasks.task import Example
from lorajax.types import Adapter


def read_prompts(path: pathlib.Path) -> list[str]:
    """Reads rows {"prompt": text}, or {"messages": [...]} of which the first user's is taken.

    Args:
      path: JSON lines; other fields, answers among them, are not looked at.

    Raises:
      InputError: naming the file, for an empty file or a row of another form.
    """
    prompts = []
    for number, row in enumerate(io.read_jsonl(path), 1):
        given = row.get('prompt') if isinstance(row, dict) else None
        if isinstance(row, dict) and isinstance(row.get('messages'), list):
            said = [m.get('content') for m in row['messages'] if m.get('role') == 'user']
            given = said[0] if said else None
        if not isinstance(given, str) or not given:
            raise InputError(f'{path}: row {number} has no text under prompt, nor user messages')
        prompts.append(given)
    if not prompts:
        raise InputError(f'{path}: is empty, expected rows with a prompt')
    return prompts


class Answer(NamedTuple):
    """What a model says to a prompt.

    Attributes:
      text: without surrounding blanks.
      nll: nats per token of the answer, end token included, under the model that gave it; inf
        if it was cut off or is empty.
    """

    text: str
    nll: float


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
    answers = {task: [Answer('', np.inf)] * len(prompts) for task in adapters}
    with Progress('answer', len(prompts) * len(adapters)) as progress:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            rows = [encoded[i] for i in batch]
            tokens = generate_batch(model, chat, stacked, rows, batch_size, max_len, max_new_tokens)
            for slot, task in enumerate(adapters):
                said = [_until_stop(chat, ids) for ids in tokens[slot]]
                given = [Encoded(row.prompt, ids) for row, ids in zip(rows, said, strict=True)]
                nll = answer_nll(model, adapters[task], given, batch_size, chat.pad_id)
                for index, ids, loss in zip(batch, said, nll, strict=True):
                    text = chat.decode(ids).strip()
                    is_whole = bool(text) and np.isin(ids[-1], chat.stop_ids)
                    answers[task][index] = Answer(text, float(loss) if is_whole else np.inf)
            progress.update(len(batch) * len(adapters))
    return answers


def _until_stop(chat: ChatFormat, ids: np.ndarray) -> np.ndarray:
    """Cuts int32[M] generated tokens behind the first stop id."""
    stops = np.flatnonzero(np.isin(ids, chat.stop_ids))
    return ids[: stops[0] + 1] if len(stops) else ids


def lessons(
    prompts: Sequence[str], answers: Sequence[Answer], count: int, task: str
) -> list[Example]:
    """Returns the prompts whose answers the teacher is surest of, as training examples.

    Args:
      prompts: user messages.
      answers: to each of them.
      count: most examples to keep.
      task: for names and messages.

    Raises:
      InputError: if no answer came to its end.
    """
    losses = np.array([answer.nll for answer in answers])
    order = [i for i in np.argsort(losses, kind='stable')[:count] if np.isfinite(losses[i])]
    if not order:
        raise InputError(
            f'{task}: the source model with its adapter finished none of {len(prompts)} answers; '
            'give a larger --max_new_tokens or other prompts'
        )
    return [
        Example(
            item=f'{task}/answered {i}',
            prompt=prompts[i],
            answer=answers[i].text,
            reference=answers[i].text,
            problem_ids=(),
            question=prompts[i],
        )
        for i in sorted(order)
    ]


def longest_answer(chat: ChatFormat, examples: Sequence[Example]) -> int:
    """Returns the tokens to decode so that answers like those of `examples` fit."""
    return bucket(max(len(chat.encode_answer(e.prompt, e.answer)) for e in examples))
