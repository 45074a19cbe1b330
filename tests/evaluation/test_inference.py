"""Batches of prompts for many adapters: rows that are added are dropped again."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lorajax import models
from lorajax.evaluation import inference
from lorajax.lora import stack
from lorajax.models.hf import hub
from lorajax.tasks.chat import load_chat_format
from lorajax.tasks.task import Example
from tests import tiny_models

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = [
    Example(item=f'i{k}', prompt=f'What is {k} and {k * k}?', answer='It is ' + 'so ' * 4 * k + '.',
            reference='') for k in range(5)
]  # fmt: skip


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    root = tmp_path_factory.mktemp('inference')
    return tiny_models.write(root / 'qwen2', 'qwen2', [e.prompt + e.answer for e in EXAMPLES])


@pytest.fixture(scope='module')
def setting(directory):
    model = models.load_model(str(directory))
    chat = load_chat_format(hub.resolve(str(directory)))
    return model, chat, [chat.encode(example) for example in EXAMPLES]


def make_adapters(model, count):
    """Random adapters of one projection, strong enough to change answers."""
    width_in, width_out = model.config.projections['o_proj']
    generator = np.random.default_rng(0)
    shape_a, shape_b = (
        (model.config.num_layers, width_in, 2),
        (model.config.num_layers, 2, width_out),
    )
    return [
        {'layers': {'o_proj': {
            'a': generator.normal(size=shape_a).astype(np.float32),
            'b': 0.3 * generator.normal(size=shape_b).astype(np.float32),
        }}}
        for _ in range(count)
    ]  # fmt: skip


def test_stacked_adapters_lose_as_one_by_one(setting):
    model, chat, rows = setting
    adapters = make_adapters(model, 3)
    losses = inference.answer_nll(model, stack(adapters), rows, 6, chat.pad_id)
    assert losses.shape == (3, 5)
    for slot, adapter in enumerate(adapters):
        one = inference.answer_nll(model, adapter, rows, 6, chat.pad_id)
        np.testing.assert_allclose(one, losses[slot], rtol=1e-5)  # float32, another batch shape
    assert not np.allclose(losses[0], losses[1], rtol=1e-3)


def test_losses_are_means_over_the_answers_tokens(setting):
    model, chat, rows = setting
    losses = inference.answer_nll(model, None, rows, 8, chat.pad_id)
    for row, loss in zip(rows, losses, strict=True):
        tokens = np.concatenate([row.prompt, row.answer])
        logits = np.asarray(model.logits(tokens[None])[0], np.float64)[len(row.prompt) - 1 : -1]
        log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        expected = -log_probs[np.arange(len(row.answer)), row.answer].mean()
        assert loss == pytest.approx(expected, rel=1e-5)


def test_decoding_is_as_long_as_the_longest_example(setting):
    _, chat, rows = setting
    longest = max(len(row.answer) for row in rows)
    assert longest <= inference.decode_length(chat, EXAMPLES) < 2 * longest
    assert inference.decode_length(chat, EXAMPLES[:1]) < inference.decode_length(chat, EXAMPLES)


_ON_EIGHT_DEVICES = """
import json, sys
import jax
from lorajax import models, sharding
from lorajax.evaluation.evaluate import evaluate
from lorajax.models.hf import hub
from lorajax.tasks import registry
from lorajax.tasks.chat import load_chat_format
from tests.evaluation.test_choices import EXAMPLES
from tests.evaluation.test_inference import make_adapters

answers = []
for mesh, devices in (((1, 1, 1), 1), ((1, 8, 1), 8), ((2, 2, 2), 8), ((1, 2, 1, 4), 8)):
    mesh = sharding.make_mesh(mesh, jax.devices()[:devices])
    model = models.load_model(sys.argv[1], mesh=mesh)
    adapters = {'base': None} | {str(i): a for i, a in enumerate(make_adapters(model, 2))}
    answers.append(evaluate(
        model, load_chat_format(hub.resolve(sys.argv[1])), registry.get('arc_challenge'),
        EXAMPLES, adapters, batch_size=3, max_len=64, max_new_tokens=8,
    ))
json.dump({'devices': jax.device_count(), 'answers': answers}, sys.stdout)
"""


def test_a_batch_that_eight_devices_do_not_divide(directory):
    environment = os.environ | {
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count=8 {os.environ["XLA_FLAGS"]}',
        'PYTHONPATH': str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, '-c', _ON_EIGHT_DEVICES, str(directory)],
        capture_output=True, text=True, check=False, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    output = json.loads(done.stdout)
    assert output['devices'] == 8
    alone, *sharded = output['answers']
    assert len(alone) == 12 and {row['prediction'] for row in alone} != {''}
    for rows in sharded:
        for one, row in zip(alone, rows, strict=True):
            # Sums over shards have another order: float32 rounding, nothing more.
            assert row.pop('nll') == pytest.approx(one['nll'], rel=1e-4)
            assert row == {name: value for name, value in one.items() if name != 'nll'}
