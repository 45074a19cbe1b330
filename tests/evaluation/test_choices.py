"""Multiple choice by likelihood, against likelihoods computed choice by choice."""

import jax
import numpy as np
import pytest

from lorajax import models
from lorajax.evaluation import choices
from lorajax.evaluation.evaluate import evaluate
from lorajax.models.hf import hub
from lorajax.tasks import registry
from lorajax.tasks.chat import load_chat_format
from lorajax.tasks.task import Example
from tests import tiny_models

EXAMPLES = [
    Example(
        item=f'quiz/{i}',
        prompt=f'Which one is number {i}?\nA. {texts[0]}\nB. {texts[1]}\nC. {texts[2]}',
        answer='ABC'[i % 3],
        reference='ABC'[i % 3],
        meta={'labels': ['A', 'B', 'C'], 'choices': list(texts)},
    )
    for i, texts in enumerate(
        [
            ('a cat', 'three very large elephants', 'dog'),
            ('red', 'blue', 'a shade between red and blue'),
            ('water boils', 'ice', 'steam rises from the kettle'),
            ('one', 'two', 'one hundred and twenty three'),
        ]
    )
]


@pytest.fixture(scope='module')
def setting(tmp_path_factory):
    root = tmp_path_factory.mktemp('choices')
    tiny_models.write(root / 'llama', 'llama', [e.prompt for e in EXAMPLES])
    model = models.load_model(str(root / 'llama'))
    return model, load_chat_format(hub.resolve(str(root / 'llama')))


def make_adapter(model, seed):
    """A random adapter of one projection, strong enough to change answers."""
    width_in, width_out = model.config.projections['o_proj']
    generator = np.random.default_rng(seed)
    a = generator.normal(size=(model.config.num_layers, width_in, 2))
    b = 0.3 * generator.normal(size=(model.config.num_layers, 2, width_out))
    return {'layers': {'o_proj': {'a': a.astype(np.float32), 'b': b.astype(np.float32)}}}


def log_likelihood(model, chat, adapter, prompt, answer):
    """Sum over the answer's tokens, one sequence at a time, from the logits."""
    start = chat.encode_prompt(prompt)
    ids = chat.encode_answer(prompt, answer)[:-1]
    logits = model.logits(np.concatenate([start, ids])[None], adapter=adapter)[0]
    log_probs = np.asarray(jax.nn.log_softmax(logits))[len(start) - 1 : -1]
    return log_probs[np.arange(len(ids)), ids].sum()


def test_readings_are_those_of_likelihoods_one_by_one(setting):
    model, chat = setting
    adapters = {'base': None} | {f'adapter{i}': make_adapter(model, i) for i in range(3)}
    rows = evaluate(
        model, chat, registry.get('arc_challenge'), EXAMPLES, adapters,
        batch_size=3, max_len=256, max_new_tokens=4, adapters_per_step=2,
    )  # fmt: skip
    details_of = {(row['method'], row['item']): row['details'] for row in rows}
    seen = set()
    for name, adapter in adapters.items():
        for example in EXAMPLES:
            labels, texts = example.meta['labels'], example.meta['choices']
            letters, whole = (
                np.array([log_likelihood(model, chat, adapter, example.prompt, t) for t in some])
                for some in (labels, texts)
            )
            each = whole / np.array([len(text) for text in texts])
            expected = {
                reading: labels[int(np.argmax(scores))] == example.reference
                for reading, scores in zip(choices.READINGS, (letters, whole, each), strict=True)
            }
            details = details_of[name, example.item]
            assert {k: details[k] for k in choices.READINGS} == expected
            seen.add(tuple(expected.values()))
    assert len(seen) > 2  # the readings differ, so none can stand in for another


def test_other_tasks_have_no_such_readings(setting):
    model, chat = setting
    example = Example(item='x', prompt='1 + 1?', answer='2', reference='2')
    rows = evaluate(
        model, chat, registry.get('gsm8k'), [example], {'base': None},
        batch_size=1, max_len=64, max_new_tokens=2,
    )  # fmt: skip
    assert not set(rows[0]['details']) & set(choices.READINGS)
