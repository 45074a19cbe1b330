"""Tokenizers of any size, with the template of the world."""

from lorajax.tasks.chat import load_chat_format
from lorajax.text import tokenizer


def test_a_tokenizer_comes_back_with_its_template(tmp_path):
    backend = tokenizer.train([' some words of text', ' some more'] * 3, 270)
    assert backend.get_vocab_size() == 270
    assert backend.decode(backend.encode(' some ñ 12').ids) == ' some ñ 12'
    tokenizer.save(backend, tmp_path)
    chat = load_chat_format(tmp_path)
    assert chat.prompt_text('some') == ' some =>'
    answer = chat.encode_answer('some', 'more')
    assert answer[-1] in chat.stop_ids and chat.decode(answer).strip() == 'more'
