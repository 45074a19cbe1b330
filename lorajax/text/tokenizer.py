"""A byte-level BPE of any size, trained on text."""

import pathlib
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lorajax.text.corpus import ARROW

PAD, END = '<pad>', '<end>'
_CHAT_TEMPLATE = (
    "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}"
    "{{ ' ' + message['content'] + '<end>' }}{%- elif message['role'] == 'user' -%}"
    "{{ ' ' + message['content'] + ' ARROW' }}{%- endif -%}{%- endfor -%}"
).replace('ARROW', ARROW)


def train(texts: Iterable[str], size: int) -> Tokenizer:
    """Returns a tokenizer whose token 0 fills and whose token 1 ends a text.

    Args:
      texts: to count pairs in.
      size: of the vocabulary, both special tokens among it.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, directory: pathlib.Path) -> None:
    """Writes a tokenizer with its chat template, as `transformers` loads it."""
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    fast.chat_template = _CHAT_TEMPLATE
    fast.save_pretrained(directory)
