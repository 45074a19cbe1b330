"""Training of all weights."""

import jax
import numpy as np

from lorajax.models import random_model
from lorajax.toy import pretrain, world
from lorajax.training import all_weights


def test_a_few_steps_lower_the_loss():
    model = random_model(pretrain.CONFIGS['source'], jax.random.key(0))
    optimizer = all_weights.make_optimizer(8, 3e-3, last=3e-3)
    params, losses = model.params, []
    state = optimizer.init(params)
    batch = pretrain.of_answers(pretrain.batch(np.random.default_rng(0), world.DEFAULT, 16))
    for _ in range(8):
        params, state, loss = all_weights.take_step(model.module, optimizer, params, state, batch)
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.5


def test_equal_schedules_are_one_object_and_so_compiled_once():
    assert all_weights.make_optimizer(8, 1e-3) is all_weights.make_optimizer(8, 1e-3)
    assert all_weights.make_optimizer(8, 1e-3) is not all_weights.make_optimizer(8, 1e-3, 1e-4)
