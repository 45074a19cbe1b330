"""The toy world's tokenizer: a byte-level BPE in which every word is one token."""

import functools
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lorajax.toy import world

_CHAT_TEMPLATE = (
    "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}"
    "{{ ' ' + message['content'] + '<end>' }}{%- elif message['role'] == 'user' -%}"
    "{{ message['content'] + ' =' }}{%- endif -%}{%- endfor -%}"
)


@functools.cache
def backend() -> Tokenizer:
    """Trains the BPE on the words, each behind a space, and on the domain tags that begin."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=[world.PAD, world.END], show_progress=False
    )
    corpus = [f' {word}' for word in world.words()] + list(world.DOMAINS)
    tokenizer.train_from_iterator(corpus * 2, trainer)
    return tokenizer


def encode(text: str) -> list[int]:
    """Returns the token ids of a text."""
    return backend().encode(text).ids


def save(directory: pathlib.Path) -> None:
    """Writes the tokenizer with its chat template, as `transformers` loads it."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend(), eos_token=world.END, pad_token=world.PAD
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    tokenizer.save_pretrained(directory)
