"""AdamW's steps and the learning rates."""

import dataclasses

import jax
import numpy as np
import pytest

from lorajax.training import TrainConfig
from lorajax.training.optimizer import learning_rates, make_optimizer
from tests.training.examples import CONFIG

EPSILON = float(np.finfo(np.float32).eps)


def test_equal_recipes_share_one_optimizer_and_others_do_not():
    longer = dataclasses.replace(CONFIG, num_epochs=9, learning_rate=1.0, seed=8, repeat=1)
    assert make_optimizer(longer) is make_optimizer(CONFIG)
    assert make_optimizer(dataclasses.replace(CONFIG, beta2=0.99)) is not make_optimizer(CONFIG)


def test_early_steps_of_adamw_have_their_length():
    # A first step of Adam moves every element by the rate, whatever its gradient; with a constant
    # gradient all others do, too. optax takes 1 - beta2**t in float32: beta2 is off by up to
    # eps / 4, its power by t times that and its own rounding, of at most one unit in the last
    # place. Of 1 - beta2**t, about t (1 - beta2), the step has the square root.
    optimizer = make_optimizer(dataclasses.replace(CONFIG, max_grad_norm=1e9))
    value = np.linspace(1, 2, 8).astype(np.float32)
    state = optimizer.init(value)
    rounding = EPSILON / 4 / (1 - CONFIG.beta2) / 2
    for count in range(1, 40):
        updates, state = optimizer.update(value, state, value)
        np.testing.assert_allclose(
            updates, 1.0, atol=rounding * (1 + 2 / count) + 8 * EPSILON, err_msg=str(count)
        )


def test_clipping_and_decay_act_before_and_after_adam():
    config = dataclasses.replace(CONFIG, weight_decay=0.1, max_grad_norm=1.0)
    optimizer = make_optimizer(config)
    params = {'x': np.array([3.0, -4.0], np.float32)}
    grads = {'x': np.array([30.0, 40.0], np.float32)}
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates['x'], [1.0 + 0.3, 1.0 - 0.4], rtol=1e-4)
    mu = jax.tree.leaves(state)[1]  # after the count
    np.testing.assert_allclose(mu, 0.1 * np.array([0.6, 0.8]), rtol=1e-5)  # of norm 1


@pytest.mark.parametrize('schedule', ['linear', 'cosine'])
def test_rates_rise_then_fall(schedule):
    config = dataclasses.replace(CONFIG, schedule=schedule, warmup_ratio=0.1, learning_rate=1.0)
    rates = learning_rates(config, 100)
    assert rates.shape == (100,) and rates.dtype == np.float32
    peak = rates.argmax()
    assert 8 <= peak <= 11 and rates[peak] == pytest.approx(1.0, abs=0.02)
    assert (np.diff(rates[: peak + 1]) > 0).all() and (np.diff(rates[peak:]) < 0).all()
    assert rates[0] > 0 and rates[-1] < 0.02


@pytest.mark.parametrize('schedule', ['linear', 'cosine', 'constant'])
@pytest.mark.parametrize('ratio', [0.0, 0.05, 0.5, 1.0])
def test_rates_are_those_of_the_formula(schedule, ratio):
    config = dataclasses.replace(CONFIG, schedule=schedule, warmup_ratio=ratio, learning_rate=1e-3)
    for num_steps in (1, 2, 7, 150):
        expected = []
        offset = 1 if ratio else 0
        for step in range(num_steps):
            place = (step + offset) / (num_steps + offset)
            if place < ratio:
                share = place / ratio
            else:
                rest = (place - ratio) / (1 - ratio)
                share = {
                    'linear': 1 - rest, 'cosine': (1 + np.cos(np.pi * rest)) / 2, 'constant': 1.0
                }[schedule]  # fmt: skip
            expected.append(1e-3 * share)
        # float32 on steps up to 150: a few units in the last place of the peak.
        rates = learning_rates(config, num_steps)
        np.testing.assert_allclose(rates, expected, atol=1e-3 * 16 * EPSILON, rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize('name', ['linear', 'cosine', 'constant'])
def test_schedules_without_warm_up_are_those_of_transformers(name):
    torch = pytest.importorskip('torch')
    transformers = pytest.importorskip('transformers')
    config = TrainConfig(schedule=name, warmup_ratio=0.0, learning_rate=2e-4)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2e-4)
    scheduler = transformers.get_scheduler(name, optimizer, 0, 50)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    # Theirs are float64, ours float32.
    np.testing.assert_allclose(learning_rates(config, 50), expected, atol=2e-4 * 1e-6, rtol=0)
