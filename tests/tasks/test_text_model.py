"""A model with its tokenizer answers texts as it answers their tokens."""

import jax
import numpy as np
import pytest

import lorajax
from lorajax import lora
from lorajax.errors import InputError

PROMPT = 'science ? ? sd sb se sb'
SIZES = {'max_new_tokens': 6}


@pytest.fixture(scope='module')
def model():
    return lorajax.load_model('toy-target')


def test_a_text_is_answered_as_its_tokens_are(model):
    plain = lorajax.models.load_model('toy-target')
    ids = model.text.encode_prompt(PROMPT)
    tokens = np.asarray(plain.generate(ids[None], eos_ids=model.text.stop_ids, **SIZES))[0]
    answer = model.generate(PROMPT, **SIZES)
    assert answer == model.text.decode(tokens) and len(answer.split()) == 4
    # Prompts of different lengths are padded.
    longer = 'science keep ? sd sb se sb sd'
    assert model.generate([PROMPT, longer], **SIZES)[0] == answer
    with pytest.raises(InputError, match='knows tokens only, expected one of'):
        plain.generate(PROMPT)


def test_adapters_as_they_are_read_and_stacked_ones(model):
    one = {'layers': {'q_proj': {
        'a': np.ones((3, 96, 2), np.float32), 'b': np.full((3, 2, 96), 0.5, np.float32)
    }}}  # fmt: skip
    adapter = lora.PeftAdapter(lora.LoraConfig(rank=2, alpha=2, targets=('q_proj',)), one)
    changed = model.generate(PROMPT, adapter=adapter, **SIZES)
    assert changed == model.generate(PROMPT, adapter=one, **SIZES)
    zero = jax.tree.map(np.zeros_like, one)
    both = model.generate([PROMPT], adapter=lora.stack([zero, one]), **SIZES)
    assert both == [[model.generate(PROMPT, **SIZES)], [changed]]


def test_it_shows_itself_in_a_line(model):
    assert repr(model).startswith('Model(llama, 0.4 M parameters, 3 layers, float32, from /')
    assert len(repr(model)) < 200
