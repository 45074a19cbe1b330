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
    directions_of,
    keeps_activations,
    reweight,
    truncate,
)
from lorajax.evaluation.inference import answer_nll
from lorajax.experiment import tasks
from lorajax.lora import delta_weight
from lorajax.lora.tree import init_adapter
from lorajax.mapping import Anchors
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


def together(anchors):
    """Their sum, exactly."""
    entries = [anchor['layers'] for anchor in anchors.values()]
    return {
        'layers': {
            name: {
                'a': np.concatenate([entry[name]['a'] for entry in entries], axis=-1),
                'b': np.concatenate([entry[name]['b'] for entry in entries], axis=-2),
            }
            for name in entries[0]
        }
    }


def test_directions_hold_the_anchors_and_count_in_their_units(target):
    anchors = adapters(target[0], 3)
    found = directions_of(Anchors(anchors, 'target'), 16)
    norm = np.mean([moved(None, anchor) ** 2 for anchor in anchors.values()]) ** 0.5
    for name, entry in found.factors['layers'].items():
        a, b = entry['a'], entry['b'] / norm
        for anchor in anchors.values():
            update = anchor['layers'][name]['a'] @ anchor['layers'][name]['b']
            core = a.swapaxes(1, 2) @ update @ b.swapaxes(1, 2)
            np.testing.assert_allclose(a @ core @ b, update, atol=1e-5)
    # As much as the anchors themselves, if nothing is left out.
    assert sum(np.square(s).sum() for s in found.spread.values()) == pytest.approx(1, abs=1e-4)


def test_a_core_moves_the_start_between_the_directions_by_their_spread(target):
    start, *rest = adapters(target[0], 4).items()
    found = directions_of(Anchors(dict(rest), 'target'), 2)
    rng = np.random.default_rng(9)
    cores = {name: rng.normal(size=s.shape).astype(np.float32) for name, s in found.spread.items()}
    made = updates(combine(found, cores, start[1]))
    for name, entry in found.factors['layers'].items():
        change = entry['a'] @ (found.spread[name] * cores[name]) @ entry['b']
        expected = updates(start[1])[name] + change.swapaxes(1, 2)
        np.testing.assert_allclose(made[name], expected, atol=1e-5)


def test_reweighting_lowers_the_loss_of_its_examples_below_the_mean_of_the_anchors(target):
    model, chat = target
    anchors = adapters(model, 3)
    examples = {
        task: [chat.encode(e) for e in tasks.get(task).pools(None, 'direct').train[:4]]
        for task in ('toy_math_keep_7', 'toy_code_reverse_3')
    }
    mean = together(anchors)
    for entry in mean['layers'].values():
        entry['b'] = entry['b'] / 3
    config = ReweightConfig(steps=14, more_steps=4, penalty=0.0)
    fitted = reweight(model, anchors, examples, pad_id=chat.pad_id, config=config)
    for task, few in examples.items():
        before, after = (
            answer_nll(model, adapter, few, 4, chat.pad_id).mean()
            for adapter in (mean, fitted[task])
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
    """Norm of the change; of all of it without a start."""
    after = updates(adapter)
    before = updates(start) if start else dict.fromkeys(after, 0.0)
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
        for name in ours:  # rounding alone makes them differ
            assert np.linalg.norm(ours[name] - theirs[name]) < 1e-3 * np.linalg.norm(theirs[name])


def test_a_small_step_computes_nothing_twice(target):
    module = target[0].module.clone(remat='full')
    assert keeps_activations(module, 8 * 256).remat == 'none'
    assert keeps_activations(module, 9 * 256) == module


def test_truncation_is_the_nearest_of_its_rank(target):
    wide = together(adapters(target[0], 3))
    narrow = truncate(wide, 2)
    for name, whole in updates(wide).items():
        u, s, vt = np.linalg.svd(whole)
        best = (u[..., :2] * s[:, None, :2]) @ vt[:, :2]
        assert narrow['layers'][name]['a'].shape[-1] == 2
        np.testing.assert_allclose(updates(narrow)[name], best, atol=1e-4 * s.max())
