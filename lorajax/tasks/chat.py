"""From messages to tokens: chat templates, the answer's tokens, stop ids.

The prompt is tokenised alone, as it is at inference, and the answer alone after it, so that
training sees exactly the token boundary that decoding starts from. Conversations alternate
between the two.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.io import fields
from lorajax.tasks.task import Example

# Llama 3's template prints today's date unless it is given one; results must not depend on
# the day. Qwen3's opens an answer with an empty thought where thinking is off: so do the answers
# that it writes, which otherwise would not continue their own beginning.
_TEMPLATE_OPTIONS = {'date_string': '26 Jul 2024', 'enable_thinking': False}


Message = dict[str, str]
"""{'role': 'system', 'user' or 'assistant', 'content': text}."""


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Messages of which the assistant's are learned.

    Attributes:
      where: names the conversation in errors, such as 'rows.jsonl:3'.
      messages: the last is the assistant's.
      first_target: index of the first message that may be learned; what the assistant says
        before it is context.
    """

    where: str
    messages: tuple[Message, ...]
    first_target: int = 0


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An example in tokens.

    Attributes:
      prompt: int32[P], up to and including what the template puts before an answer.
      answer: int32[M], the answer and the end token: exactly what the loss counts. Of a
        conversation with several answers, everything from the first on.
      is_target: bool[M], which tokens of `answer` the loss counts, the first always; None for
        all.
    """

    prompt: np.ndarray
    answer: np.ndarray
    is_target: np.ndarray | None = None

    @property
    def targets(self) -> np.ndarray:
        """int[targets], where in prompt and answer together the counted tokens stand."""
        offsets = (
            np.arange(len(self.answer))
            if self.is_target is None
            else np.flatnonzero(self.is_target)
        )
        return len(self.prompt) + offsets


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
        return self._render(_turn(prompt), add_generation_prompt=True)

    def answer_text(self, prompt: str, answer: str) -> str:
        """Returns what follows `prompt_text` when the assistant says `answer`."""
        if not self.tokenizer.chat_template:
            return answer
        start = self.prompt_text(prompt)
        whole = self._render(_turn(prompt, answer))
        return whole[len(start) :] if whole.startswith(start) else answer

    def _render(self, messages: Sequence[Message], **options: Any) -> str:
        return self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, **options, **_TEMPLATE_OPTIONS
        )

    def encode_prompt(self, prompt: str, system: str | None = None) -> np.ndarray:
        """Returns int32[P] tokens of a user message, ready to be continued.

        Args:
          prompt: the user's message.
          system: a message of system before it; None for what the template writes itself.

        Raises:
          ArgumentError: if there is a system message and no template, or one that refuses it.
        """
        if system is None:
            # A template writes the special tokens itself; without one the tokenizer adds its own.
            has_template = bool(self.tokenizer.chat_template)
            return self._ids(self.prompt_text(prompt), add_special_tokens=not has_template)
        if not self.tokenizer.chat_template:
            raise ArgumentError('system', system, 'the tokenizer has no chat template to write it')
        messages = [{'role': 'system', 'content': system}, *_turn(prompt)]
        try:
            text = self._render(messages, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            problem = f'the chat template refuses it: {error}'
            raise ArgumentError('system', system, problem) from None
        return self._ids(text, add_special_tokens=False)

    def encode_answer(self, prompt: str, answer: str) -> np.ndarray:
        """Returns int32[M] tokens of an answer up to and including its end token."""
        return self._answer_ids(self.answer_text(prompt, answer))[0]

    def _answer_ids(self, text: str) -> tuple[np.ndarray, int]:
        """Returns an answer's tokens with one end token, and how many characters they take."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = np.asarray(found['input_ids'], np.int32)
        stops = np.flatnonzero(np.isin(ids, self.stop_ids))
        if len(stops):
            return ids[: stops[0] + 1], found['offset_mapping'][stops[0]][1]
        return np.append(ids, np.int32(self.stop_ids[0])), len(text)

    def _ids(self, text: str, add_special_tokens: bool) -> np.ndarray:
        ids = self.tokenizer(text, add_special_tokens=add_special_tokens)['input_ids']
        return np.asarray(ids, np.int32)

    def encode(self, example: Example) -> Encoded:
        """Returns an example's prompt and answer in tokens.

        Raises:
          InputError: if it has context that the template cannot write; see `encode_conversation`.
        """
        if example.context:
            messages = (*map(dict, example.context), *_turn(example.prompt, example.answer))
            last = len(messages) - 1
            return self.encode_conversation(Conversation(example.item, messages, last))
        return Encoded(
            self.encode_prompt(example.prompt), self.encode_answer(example.prompt, example.answer)
        )

    def encode_conversation(self, conversation: Conversation) -> Encoded:
        """Returns a conversation in tokens; the loss counts answers and their end tokens.

        Every answer is tokenised as `encode_answer` does it, so a conversation of one message
        and one answer gives what `encode` gives.

        Raises:
          InputError: naming the conversation, if the template refuses it, does not write a
            conversation as a continuation of its own beginning, or is not there and needed.
        """
        messages, where = conversation.messages, conversation.where
        if [message['role'] for message in messages] == ['user', 'assistant']:
            prompt, answer = (message['content'] for message in messages)
            return Encoded(self.encode_prompt(prompt), self.encode_answer(prompt, answer))
        if not self.tokenizer.chat_template:
            raise InputError(
                f'{where}: the tokenizer has no chat template, expected one message of the user '
                'and one answer'
            )
        pieces: list[np.ndarray] = []  # context and answer in turns
        done = ''  # the text of these
        for index, message in enumerate(messages):
            if message['role'] != 'assistant' or index < conversation.first_target:
                continue
            try:
                start = self._render(messages[:index], add_generation_prompt=True)
                whole = self._render(messages[: index + 1])
            except jinja2.TemplateError as error:
                raise InputError(f'{where}: the chat template refuses it: {error}') from None
            if not (start.startswith(done) and whole.startswith(start)):
                raise InputError(
                    f'{where}: the chat template writes message {index} otherwise than as a '
                    'continuation of what is before it, expected rows of one answer'
                )
            answer_ids, length = self._answer_ids(whole[len(start) :])
            pieces += [self._ids(start[len(done) :], add_special_tokens=False), answer_ids]
            done = whole[: len(start) + length]
        flags = [np.full(len(piece), i % 2 == 0) for i, piece in enumerate(pieces[1:])]
        is_target = np.concatenate(flags) if len(flags) > 1 else None
        return Encoded(pieces[0], np.concatenate(pieces[1:]), is_target)

    def decode(self, ids: np.ndarray) -> str:
        """Returns the text of int32[M] generated tokens, up to the first stop id."""
        stops = np.flatnonzero(np.isin(ids, self.stop_ids))
        kept = ids[: stops[0]] if len(stops) else ids
        return self.tokenizer.decode(kept.tolist(), skip_special_tokens=True)


def _turn(*texts: str) -> list[Message]:
    """Returns a user's message and, if it is given, the assistant's."""
    return [
        {'role': role, 'content': text}
        for role, text in zip(('user', 'assistant'), texts, strict=False)
    ]


def truncate(encoded: Encoded, max_len: int) -> Encoded | None:
    """Keeps the first `max_len` tokens of an example; None if no answer token is left."""
    room = max_len - len(encoded.prompt)
    if room <= 0:
        return None
    kept = None if encoded.is_target is None else encoded.is_target[:room]
    return Encoded(encoded.prompt, encoded.answer[:room], kept)


@functools.cache
def load_chat_format(directory: pathlib.Path, end_token: str = '') -> ChatFormat:
    """Loads the tokenizer and stop ids of a model directory in HF format.

    Args:
      directory: of the model.
      end_token: ends answers where no template writes another, and is a stop id beside the model's
        own; '' for these alone. For models whose own end token was never met in pretraining: those
        of llama2.c know the token that begins a text, '<s>', as what stands between two texts.

    Raises:
      InputError: if there is no fast tokenizer, or no stop id is known.
      ArgumentError: of `end_tokens`, if the tokenizer has no such token.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not any((directory / name).is_file() for name in ('tokenizer.json', 'tokenizer.model')):
        raise InputError(f'{directory}: holds no tokenizer.json')
    stops = _stop_ids(directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise InputError(f'{directory}: has no fast tokenizer, expected tokenizer.json')
        if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in stops:
            stops = (tokenizer.eos_token_id, *stops)
        if end_token:
            end = tokenizer.get_vocab().get(end_token)
            if end is None:
                raise ArgumentError('end_tokens', end_token, f'is no token of {directory}')
            stops = tuple(dict.fromkeys((end, *stops)))
        if not stops:
            raise InputError(f'{directory}: no eos_token_id in tokenizer or generation_config.json')
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
        chat_format = ChatFormat(tokenizer, stops, pad_id)
        # A template is a program: what it cannot write is said now, not after an hour.
        chat_format.decode(chat_format.encode(Example('probe', 'a', 'b', 'b')).answer)
    except (InputError, ArgumentError):
        raise
    # The tokenizers package raises Exception itself; transformers and a template raise whatever
    # the first wrong type in their files leads to. A panic of its Rust code is no Exception at all.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != 'PanicException':
            raise
        reason = str(error).strip().split('\n')[0] or type(error).__name__
        raise InputError(
            f'{directory}: tokenizer does not load: {io.shorten(reason, 200)}'
        ) from None
    return chat_format


def _stop_ids(directory: pathlib.Path) -> tuple[int, ...]:
    """Returns the stop ids of generation_config.json, else of config.json, else none."""
    for name in ('generation_config.json', 'config.json'):
        path = directory / name
        content = io.read_json(path) if path.is_file() else {}
        ids = fields.require_object(path, content).get('eos_token_id')
        if ids is None:
            continue
        listed = ids if isinstance(ids, list) else [ids]
        if not listed or not all(type(i) is int and i >= 0 for i in listed):
            raise InputError(
                f'{path}: eos_token_id is {io.show(ids)}, expected a token id or several'
            )
        return tuple(listed)
    return ()
