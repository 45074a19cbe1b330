"""From messages to tokens: chat templates, the answer's tokens, stop ids.

The prompt is tokenised alone, as it is at inference, and the answer alone after it, so that
training sees exactly the token boundary that decoding starts from.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from lorajax import workdir
from lorajax.errors import InputError
from lorajax.tasks.task import Example

# Llama 3's template prints today's date unless it is given one; results must not depend on
# the day.
_TEMPLATE_OPTIONS = {'date_string': '26 Jul 2024'}


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An example in tokens.

    Attributes:
      prompt: int32[P], up to and including what the template puts before an answer.
      answer: int32[M], the answer and the end token: exactly what the loss counts.
    """

    prompt: np.ndarray
    answer: np.ndarray


@dataclasses.dataclass(frozen=True)
class ChatFormat:
    """A model's tokenizer, chat template and stop ids.

    Attributes:
      tokenizer: a `transformers` fast tokenizer.
      stop_ids: ids that end an answer; the first is used where a template writes none.
      pad_id: fills batches; never seen by attention.
    """

    tokenizer: Any
    stop_ids: tuple[int, ...]
    pad_id: int

    def prompt_text(self, prompt: str) -> str:
        """Returns the text that the model continues."""
        if not self.tokenizer.chat_template:
            return prompt + '\n'
        return self._render([{'role': 'user', 'content': prompt}], add_generation_prompt=True)

    def answer_text(self, prompt: str, answer: str) -> str:
        """Returns what follows `prompt_text` when the assistant says `answer`."""
        if not self.tokenizer.chat_template:
            return answer
        start = self.prompt_text(prompt)
        messages = [{'role': 'user', 'content': prompt}, {'role': 'assistant', 'content': answer}]
        whole = self._render(messages)
        return whole[len(start) :] if whole.startswith(start) else answer

    def _render(self, messages: list[dict[str, str]], **options: Any) -> str:
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, **options, **_TEMPLATE_OPTIONS
        )

    def encode_prompt(self, prompt: str) -> np.ndarray:
        """Returns int32[P] tokens of a user message, ready to be continued."""
        # A template writes the special tokens itself; without one the tokenizer adds its own.
        has_template = bool(self.tokenizer.chat_template)
        return self._ids(self.prompt_text(prompt), add_special_tokens=not has_template)

    def encode_answer(self, prompt: str, answer: str) -> np.ndarray:
        """Returns int32[M] tokens of an answer up to and including its end token."""
        ids = self._ids(self.answer_text(prompt, answer), add_special_tokens=False)
        stops = np.flatnonzero(np.isin(ids, self.stop_ids))
        if len(stops):
            return ids[: stops[0] + 1]
        return np.append(ids, np.int32(self.stop_ids[0]))

    def _ids(self, text: str, add_special_tokens: bool) -> np.ndarray:
        ids = self.tokenizer(text, add_special_tokens=add_special_tokens)['input_ids']
        return np.asarray(ids, np.int32)

    def encode(self, example: Example) -> Encoded:
        """Returns an example's prompt and answer in tokens."""
        return Encoded(
            self.encode_prompt(example.prompt), self.encode_answer(example.prompt, example.answer)
        )

    def decode(self, ids: np.ndarray) -> str:
        """Returns the text of int32[M] generated tokens, up to the first stop id."""
        stops = np.flatnonzero(np.isin(ids, self.stop_ids))
        kept = ids[: stops[0]] if len(stops) else ids
        return self.tokenizer.decode(kept.tolist(), skip_special_tokens=True)


def truncate(encoded: Encoded, max_len: int) -> Encoded | None:
    """Keeps the first `max_len` tokens of an example; None if no answer token is left."""
    room = max_len - len(encoded.prompt)
    if room <= 0:
        return None
    return Encoded(encoded.prompt, encoded.answer[:room])


@functools.cache
def load_chat_format(directory: pathlib.Path) -> ChatFormat:
    """Loads the tokenizer and stop ids of a model directory in HF format.

    Raises:
      InputError: if there is no fast tokenizer, or no stop id is known.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not any((directory / name).is_file() for name in ('tokenizer.json', 'tokenizer.model')):
        raise InputError(f'{directory}: holds no tokenizer.json')
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split('\n')[0]
        raise InputError(f'{directory}: tokenizer does not load: {reason}') from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(f'{directory}: has no fast tokenizer, expected tokenizer.json')
    stops = _stop_ids(directory)
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in stops:
        stops = (tokenizer.eos_token_id, *stops)
    if not stops:
        raise InputError(f'{directory}: no eos_token_id in tokenizer or generation_config.json')
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    return ChatFormat(tokenizer, stops, pad_id)


def _stop_ids(directory: pathlib.Path) -> tuple[int, ...]:
    """Returns the stop ids of generation_config.json, else of config.json, else none."""
    for name in ('generation_config.json', 'config.json'):
        if (directory / name).is_file():
            ids = workdir.read_json(directory / name).get('eos_token_id')
            if ids is not None:
                return tuple(ids) if isinstance(ids, list) else (ids,)
    return ()
