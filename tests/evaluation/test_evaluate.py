"""Outcomes of real, tiny models: one row per adapter and item, and what goes into it."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from lorajax import models
from lorajax.errors import ArgumentError, InputError
from lorajax.evaluation import outcomes
from lorajax.evaluation.evaluate import evaluate
from lorajax.models.hf import hub
from lorajax.tasks import registry, scoring
from lorajax.tasks.chat import load_chat_format
from lorajax.tasks.task import Example
from tests import tiny_models
from tests.evaluation.test_choices import make_adapter

WORDS = ('ab', 'cde', 'fghi', 'jk lm', 'no pq rs')
EXAMPLES = [
    Example(item=f'i{k}', prompt=f'{word} {word}?', answer=str(k), reference=str(k))
    for k, word in enumerate(WORDS)
]
LIMITS = {'batch_size': 2, 'max_len': 32, 'max_new_tokens': 8}


@pytest.fixture(scope='module')
def setting(tmp_path_factory):
    root = tmp_path_factory.mktemp('evaluate') / 'llama'
    texts = [e.prompt + e.answer for e in EXAMPLES]
    tiny_models.write(root, 'llama', texts, tied=False)
    return models.load_model(str(root)), load_chat_format(hub.resolve(str(root)))


def adapters_of(model):
    """The base and two adapters, of which one adapts a projection more."""
    one, two = (make_adapter(model, seed) for seed in (1, 2))
    two['layers']['q_proj'] = make_adapter(model, 3)['layers']['o_proj']  # both are square here
    return {'base': None, 'one': one, 'two': two}


@pytest.fixture(scope='module')
def rows(setting):
    model, chat = setting
    adapters = adapters_of(model)
    return evaluate(model, chat, registry.get('gsm8k'), EXAMPLES, adapters, **LIMITS)


def test_a_row_for_every_adapter_and_item(rows, tmp_path):
    assert [(row['method'], row['item']) for row in rows] == [
        (name, example.item) for name in ('base', 'one', 'two') for example in EXAMPLES
    ]
    for row, example in zip(rows, EXAMPLES * 3, strict=True):
        assert row['task'] == 'gsm8k' and row['reference'] == example.reference
        verdict = scoring.score('numeric', example, row['prediction'])
        assert row['correct'] == verdict.correct
        assert row['details'] == {**verdict.details, 'truncated': row['details']['truncated']}
    assert len({row['prediction'] for row in rows}) > 5  # items and adapters differ
    outcomes.write(tmp_path / 'gsm8k.jsonl', rows)
    assert outcomes.read(tmp_path / 'gsm8k.jsonl', 'gsm8k') == rows


def test_adapters_in_groups_answer_as_all_at_once(setting, rows):
    model, chat = setting
    adapters = adapters_of(model)
    grouped = evaluate(
        model, chat, registry.get('gsm8k'), EXAMPLES, adapters, adapters_per_step=2, **LIMITS
    )
    for one, other in zip(rows, grouped, strict=True):
        assert {**one, 'nll': None} == {**other, 'nll': None}
        assert one['nll'] == pytest.approx(other['nll'], rel=1e-4)  # float32, other batch shapes


def test_a_loss_that_is_no_number_spoils_its_own_row_only(setting, rows):
    model, chat = setting
    tokens = [set(chat.encode_prompt(example.prompt).tolist()) for example in EXAMPLES]
    only_last = min(tokens[-1].difference(*tokens[:-1]))
    embedding = np.array(model.params['embed']['embedding'])
    embedding[only_last] = np.nan
    params = {**model.params, 'embed': {'embedding': jax.numpy.asarray(embedding)}}
    broken = dataclasses.replace(model, params=params)
    broken_rows = evaluate(broken, chat, registry.get('gsm8k'), EXAMPLES, {'base': None}, **LIMITS)
    assert [row['nll'] is None for row in broken_rows] == [False] * 4 + [True]
    for row, sound in zip(broken_rows[:-1], rows[:4], strict=True):
        assert row['prediction'] == sound['prediction']
        assert row['nll'] == pytest.approx(sound['nll'], rel=1e-4)
    json.dumps(broken_rows, allow_nan=False)


def test_errors_of_programs_that_no_file_can_hold_are_stored(tmp_path):
    example = Example(
        item='i', prompt='', answer='', reference='def f():\n    return 1\n',
        meta={'setup': '', 'base': ['assert f() == 1'], 'plus': ''},
    )  # fmt: skip
    program = "def f():\n    raise ValueError('\\ud800')\n"
    (verdict,) = scoring.score_batch('code', [example], [program], allow_code_execution=True)
    assert 'ValueError' in verdict.details['error']
    row = {'task': 't', 'method': 'base', 'item': 'i', 'correct': verdict.correct,
           'prediction': program + '\ud800', 'nll': None, 'details': verdict.details}  # fmt: skip
    outcomes.write(tmp_path / 't.jsonl', [outcomes.storable(row)])
    (stored,) = outcomes.read(tmp_path / 't.jsonl', 't')
    assert stored['prediction'] == program + '\ufffd'
    assert 'ValueError' in stored['details']['error']


def test_refusals(setting):
    model, chat = setting
    task = registry.get('gsm8k')
    with pytest.raises(InputError, match='task gsm8k: no items to evaluate'):
        evaluate(model, chat, task, [], {'base': None}, **LIMITS)
    with pytest.raises(ArgumentError, match='max_new_tokens 0: expected 1 or more'):
        evaluate(model, chat, task, EXAMPLES, {}, batch_size=2, max_len=32, max_new_tokens=0)
