"""Few-shot reweighting on the toy's target model."""

import pathlib

import jax
import numpy as np
import pytest

from lorajax import toy
from lorajax.distillation.reweight import combine, reweight
from lorajax.evaluation.inference import answer_nll
from lorajax.experiment import tasks
from lorajax.lora import stack
from lorajax.lora.tree import init_adapter
from lorajax.models import load_model
from lorajax.tasks.chat import load_chat_format


@pytest.fixture(scope='module')
def target():
    directory = pathlib.Path(toy.MODELS['toy-target'])
    return load_model(str(directory)), load_chat_format(directory)


def adapters(model, count):
    made = {}
    for seed in range(count):
        rng = np.random.default_rng(seed)
        shape = model.config
        fresh = init_adapter(
            jax.random.key(seed), shape.projections, shape.num_layers, 2, ('v_proj', 'up_proj')
        )
        for entry in fresh['layers'].values():
            entry['b'] = rng.normal(0, 0.1, entry['b'].shape).astype(np.float32)
        made[f'anchor{seed}'] = jax.tree.map(np.asarray, fresh)
    return made


def test_a_combination_is_the_weighted_sum_of_updates(target):
    anchors = adapters(target[0], 3)
    rng = np.random.default_rng(9)
    depth = target[0].config.num_layers
    weights = {name: rng.normal(size=(depth, 3)) for name in ('v_proj', 'up_proj')}
    combined = combine(stack(list(anchors.values())), weights)
    for name, entry in combined['layers'].items():
        for layer in range(depth):
            expected = sum(
                weights[name][layer, i]
                * a['layers'][name]['a'][layer]
                @ a['layers'][name]['b'][layer]
                for i, a in enumerate(anchors.values())
            )
            actual = np.asarray(entry['a'][layer]) @ np.asarray(entry['b'][layer])
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_reweighting_lowers_the_loss_of_its_examples_below_the_mean_of_the_anchors(target):
    model, chat = target
    anchors = adapters(model, 3)
    examples = {
        task: [chat.encode(e) for e in tasks.get(task).pools(None, 'direct').train[:8]]
        for task in ('toy_math_keep_7', 'toy_code_reverse_3')
    }
    mean = {
        name: np.full((model.config.num_layers, 3), 1 / 3, np.float32)
        for name in ('v_proj', 'up_proj')
    }
    start = combine(stack(list(anchors.values())), mean)
    fitted = reweight(model, anchors, examples, pad_id=chat.pad_id, learning_rate=0.5)
    for task, few in examples.items():
        before, after = (
            answer_nll(model, adapter, few, 8, chat.pad_id).mean()
            for adapter in (jax.tree.map(np.asarray, start), fitted[task])
        )
        assert after < before - 0.1
