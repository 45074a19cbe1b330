"""Two tiny random checkpoints in HF format, with byte-level BPE tokenizers of their own."""

import json
import pathlib

QWEN_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}{{ '<|im_start|>system\n' + messages[0]['content']"
    " + '<|im_end|>\n' }}{%- else %}{{ '<|im_start|>system\nYou are a helpful assistant."
    "<|im_end|>\n' }}{%- endif %}{%- for message in messages %}{%- if message['role'] != "
    "'system' %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
    " + '\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
LLAMA_TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' "
    "+ (date_string if date_string is defined else strftime_now('%d %b %Y')) + '\n\n<|eot_id|>' "
    "}}{%- for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    '{%- endif %}'
)
SPECIAL = {
    'qwen2': ['<|endoftext|>', '<|im_start|>', '<|im_end|>'],
    'llama': ['<|begin_of_text|>', '<|end_of_text|>', '<|start_header_id|>', '<|end_header_id|>',
              '<|eot_id|>'],
}  # fmt: skip
END = {'qwen2': '<|im_end|>', 'llama': '<|eot_id|>'}


def write_tokenizer(directory, family, texts, vocab_size=500):
    """Trains a byte-level BPE on texts and saves it with the family's template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL[family], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END[family], pad_token=SPECIAL[family][0]
    )
    tokenizer.chat_template = QWEN_TEMPLATE if family == 'qwen2' else LLAMA_TEMPLATE
    tokenizer.save_pretrained(directory)
    return tokenizer


def write(directory, family, texts, **overrides):
    """Writes a whole model directory and returns it."""
    from tests.models import reference

    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(directory, family, texts)
    sizes = dict(vocab_size=len(tokenizer), num_hidden_layers=2, initializer_range=0.05)
    reference.make(directory, family, **{**sizes, **overrides})
    ids = {'eos_token_id': [tokenizer.eos_token_id], 'pad_token_id': tokenizer.pad_token_id}
    (directory / 'generation_config.json').write_text(json.dumps(ids))
    return directory


def texts_below(data_dir):
    """Returns the strings of all rows of a data directory."""
    found = []
    for path in sorted(pathlib.Path(data_dir).rglob('*.jsonl')):
        for line in path.read_text(encoding='utf-8').split('\n')[:200]:
            if line:
                found += [v for v in json.loads(line).values() if isinstance(v, str)]
    return found
