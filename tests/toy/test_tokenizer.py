"""The tokenizer of the toy world."""

import transformers

from lorajax import toy
from lorajax.tasks.chat import load_chat_format
from lorajax.toy import language, tokenizer, world


def test_every_word_is_one_token_and_text_survives():
    for word in world.words():
        assert len(tokenizer.encode(f' {word}')) == 1
    chat = load_chat_format(toy.MODELS['toy-source'])
    example = language.TASKS['toy_code_keep_5'].pools(None, 'direct').eval[0]
    encoded = chat.encode(example)
    assert (len(encoded.prompt), len(encoded.answer)) == (8, 5)
    assert chat.decode(encoded.answer).strip() == example.answer
    assert encoded.prompt.tolist() == tokenizer.encode(example.prompt + ' =')


def test_what_is_saved_loads_in_transformers_and_encodes_alike(tmp_path):
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    text = ' '.join(world.words())
    assert theirs(text, add_special_tokens=False)['input_ids'] == tokenizer.encode(text)
    assert theirs.decode(tokenizer.encode(text)) == text
    assert (theirs.eos_token, theirs.pad_token) == (world.END, world.PAD)
