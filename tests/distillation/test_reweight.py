"""Few-shot reweighting on the toy's target model."""

import pathlib

import jax
import numpy as np
import pytest

from lorajax import toy
from lorajax.distillation.reweight import (
    ReweightConfig,
    Reweighting,
    combine,
    keeps_activations,
    reweight,
    truncate,
)
from lorajax.evaluation.inference import answer_nll
from lorajax.experiment import tasks
from lorajax.lora import delta_weight, stack
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
        task: [chat.encode(e) for e in tasks.get(task).pools(None, 'direct').train[:4]]
        for task in ('toy_math_keep_7', 'toy_code_reverse_3')
    }
    mean = {
        name: np.full((model.config.num_layers, 3), 1 / 3, np.float32)
        for name in ('v_proj', 'up_proj')
    }
    start = combine(stack(list(anchors.values())), mean)
    config = ReweightConfig(steps=14, more_steps=4, penalty=0.0)
    fitted = reweight(model, anchors, examples, pad_id=chat.pad_id, config=config)
    for task, few in examples.items():
        before, after = (
            answer_nll(model, adapter, few, 4, chat.pad_id).mean()
            for adapter in (jax.tree.map(np.asarray, start), fitted[task])
        )
        assert after < before - 0.1


def updates(adapter):
    """Every update, [L, out, in] by projection."""
    return {name: np.asarray(delta_weight(entry)) for name, entry in adapter['layers'].items()}


@pytest.fixture(scope='module')
def rows(target):
    _, chat = target
    return {
        task: [chat.encode(e) for e in tasks.get(task).pools(None, 'direct').train[:4]]
        for task in ('toy_math_keep_7', 'toy_code_reverse_3')
    }


def fit(target, rows, **options):
    """A short fit from the fourth random adapter on."""
    model, chat = target
    everyone = adapters(model, 4)
    start = everyone.pop('anchor3')
    config = ReweightConfig(steps=5, more_steps=2, penalty=options.pop('penalty', 0.0))
    fitted = reweight(
        model, everyone, rows, pad_id=chat.pad_id, start_from=dict.fromkeys(rows, start),
        config=config, **options,
    )  # fmt: skip
    return start, fitted


def test_a_fit_that_goes_on_begins_where_it_stood(target, rows):
    model, chat = target
    everyone = adapters(model, 4)
    start = dict.fromkeys(rows, everyone.pop('anchor3'))
    fits = Reweighting(
        model, everyone, pad_id=chat.pad_id, start_from=start, config=ReweightConfig(penalty=0.0)
    )
    made = [start, fits.go_on(rows, None, 4), fits.go_on(rows, None, 3)]
    for task, few in rows.items():
        losses = [answer_nll(model, one[task], few, 4, chat.pad_id).mean() for one in made]
        assert losses[0] > losses[1] > losses[2]


def moved(start, adapter):
    """Norm of the change."""
    before, after = updates(start), updates(adapter)
    return np.sqrt(sum(np.square(after[name] - before[name]).sum() for name in before))


def test_answers_that_are_not_trusted_leave_the_start(target, rows):
    nothing = {task: np.zeros(len(few)) for task, few in rows.items()}
    start, fitted = fit(target, rows, trust=nothing, penalty=0.1)
    for adapter in fitted.values():
        assert moved(start, adapter) < 1e-5
        assert adapter['layers']['v_proj']['a'].shape[-1] == 2 + 3 * 2


def test_a_penalty_keeps_the_adapter_near_its_start(target, rows):
    start, free = fit(target, rows)
    _, bound = fit(target, rows, penalty=3.0)
    for task in rows:
        assert 0 < moved(start, bound[task]) < 0.8 * moved(start, free[task])


def test_adapters_fitted_together_are_those_fitted_one_by_one(target, rows):
    _, together = fit(target, rows, penalty=0.1)
    _, alone = fit(target, rows, penalty=0.1, adapters_per_step=1)
    for task in rows:
        ours, theirs = updates(together[task]), updates(alone[task])
        for name in ours:  # Adam divides by the gradient's size, which rounding alone makes differ
            assert np.linalg.norm(ours[name] - theirs[name]) < 1e-3 * np.linalg.norm(theirs[name])


def test_a_small_step_computes_nothing_twice(target):
    module = target[0].module.clone(remat='full')
    assert keeps_activations(module, 8 * 256).remat == 'none'
    assert keeps_activations(module, 9 * 256) == module


def test_truncation_is_the_nearest_of_its_rank(target):
    anchors = list(adapters(target[0], 3).values())
    weights = {name: np.ones((target[0].config.num_layers, 3)) for name in ('v_proj', 'up_proj')}
    wide = jax.tree.map(np.asarray, combine(stack(anchors), weights))
    narrow = truncate(wide, 2)
    for name, whole in updates(wide).items():
        u, s, vt = np.linalg.svd(whole)
        best = (u[..., :2] * s[:, None, :2]) @ vt[:, :2]
        assert narrow['layers'][name]['a'].shape[-1] == 2
        np.testing.assert_allclose(updates(narrow)[name], best, atol=1e-4 * s.max())
