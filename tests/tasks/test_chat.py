"""The loss counts the answer and its end token, and nothing else, in both templates."""

import numpy as np
import pytest

from lorajax.errors import InputError
from lorajax.tasks.chat import load_chat_format, truncate
from lorajax.tasks.task import Example
from tests import tiny_models

TEXTS = ['What is 2 + 2? The answer is 4.', 'Paris is a city in France.']
EXAMPLE = Example(item='x', prompt='What is 2 + 2?', answer='The answer is 4.', reference='4')


def load(tmp_path, family):
    tmp_path.mkdir(exist_ok=True)
    tiny_models.write_tokenizer(tmp_path, family, TEXTS)
    (tmp_path / 'config.json').write_text(f'{{"model_type": "{family}"}}')
    return load_chat_format(tmp_path)


@pytest.mark.parametrize('family', ['qwen2', 'llama'])
def test_answer_tokens_are_the_answer_and_the_end(tmp_path, family):
    chat = load(tmp_path, family)
    encoded = chat.encode(EXAMPLE)
    tokens = chat.tokenizer.convert_ids_to_tokens(encoded.answer)
    assert tokens[-1] == tiny_models.END[family]
    assert tokens.count(tiny_models.END[family]) == 1
    assert chat.tokenizer.decode(encoded.answer[:-1]) == 'The answer is 4.'
    assert chat.decode(np.append(encoded.answer, [5, 6])) == 'The answer is 4.'


def test_prompts_follow_each_template(tmp_path):
    qwen = load(tmp_path / 'q', 'qwen2')
    assert qwen.tokenizer.decode(qwen.encode(EXAMPLE).prompt) == (
        '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
        '<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n'
    )
    llama = load(tmp_path / 'l', 'llama')
    assert llama.tokenizer.decode(llama.encode(EXAMPLE).prompt) == (
        '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024'
        '\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhat is 2 + 2?<|eot_id|>'
        '<|start_header_id|>assistant<|end_header_id|>\n\n'
    )


def test_without_a_template_the_answer_still_ends(tmp_path):
    chat = load(tmp_path, 'qwen2')
    chat.tokenizer.chat_template = None
    encoded = chat.encode(EXAMPLE)
    assert chat.tokenizer.decode(encoded.prompt) == 'What is 2 + 2?\n'
    assert encoded.answer[-1] == chat.stop_ids[0]


def test_truncation_keeps_the_beginning(tmp_path):
    encoded = load(tmp_path, 'qwen2').encode(EXAMPLE)
    size = len(encoded.prompt)
    assert truncate(encoded, size) is None
    np.testing.assert_array_equal(truncate(encoded, size + 2).answer, encoded.answer[:2])


def test_a_directory_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(InputError, match='tokenizer'):
        load_chat_format(tmp_path / 'nothing')
