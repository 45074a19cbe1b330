"""A model writes prompts where a user would, and those that its adapter knows are kept."""

import numpy as np
import pytest

from lorajax.distillation import self_prompts, teacher
from lorajax.distillation.teacher import Answer
from tests.distillation.toy_teacher import known_rows, load, random_adapter


@pytest.fixture(scope='module')
def source():
    return load('source')


class Scripted:
    """A model that writes given rows whatever it is asked."""

    def __init__(self, rows):
        self.rows, self.asked = rows, []

    def generate(self, tokens, mask, adapter, **options):
        self.asked.append((tokens, options['eos_ids']))
        return np.array(self.rows[: len(tokens)])


def test_prompts_end_where_the_users_turn_ends_and_are_there_once(source):
    _, chat = source
    ids = list(chat.encode_prompt('math ma'))  # the last is what the template puts behind a prompt
    whole, other = [*ids, 0], [*chat.encode_prompt('code ca'), 0]
    model = Scripted([whole, whole, other, [*ids[:-1], 1, 0], [ids[-1], 0, 0, 0]])
    assert self_prompts.sample(model, chat, {}, 5, max_new_tokens=4, batch_size=5) == [
        'math ma', 'code ca',
    ]  # fmt: skip
    ((tokens, stops),) = model.asked
    # The toy's template puts nothing before a prompt: a text begins behind an end token.
    assert tokens.tolist() == [[chat.stop_ids[0]]] * 5 and stops == (ids[-1], *chat.stop_ids)


def test_a_template_that_opens_the_turn_is_gone_on_with(source):
    _, chat = source
    tokenizer = chat.tokenizer
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = "math {{ messages[0]['content'] }} =" + (
            "{% if messages|length > 1 %} {{ messages[1]['content'] }}<end>{% endif %}"
        )
        model = Scripted([list(chat.encode_prompt('ma'))[1:]])
        self_prompts.sample(model, chat, {}, 1, max_new_tokens=2, batch_size=1)
        before = tokenizer('math ', add_special_tokens=False)['input_ids']
        assert model.asked[0][0].tolist() == [before]
    finally:
        tokenizer.chat_template = template


def test_what_the_adapter_knows_and_the_bare_model_does_not_is_kept(source, monkeypatch):
    model, chat = source
    adapter = random_adapter(model, 0)
    prompts = [row.prompt for row in known_rows(4)]
    # The bare model is sure of the first two answers and of no other.
    texts = [row.answer for row in known_rows(2)] + ['ma mb mc md', 'ma ma ma ma']
    said = [Answer(text, 1e-5, 5) for text in texts]
    said[3] = said[3]._replace(nll=np.inf)  # cut off
    monkeypatch.setattr(teacher, 'answer', lambda *_, **__: {'it': said})
    sizes = {'batch_size': 4, 'max_len': 32, 'max_new_tokens': 8}
    kept = self_prompts.select(model, chat, adapter, prompts, 1, **sizes)
    assert kept == {prompts[2]: said[2]}
    assert self_prompts.select(model, chat, adapter, [], 1, **sizes) == {}
