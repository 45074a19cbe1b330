"""One training step: its loss, who moves, and how often it is compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import models
from lorajax.models import presets
from lorajax.tasks.batching import make_batch, shape_of
from lorajax.training import train_adapters
from lorajax.training.optimizer import make_optimizer
from lorajax.training.plan import TrainPlan
from lorajax.training.state import init_state
from lorajax.training.step import make_train_step
from tests.training.examples import CONFIG, make_examples

TASKS = {'a': make_examples(1, 4), 'b': make_examples(2, 3)}  # the second leaves a row empty


@pytest.fixture(scope='module')
def tiny():
    return models.random_model(presets.QWEN2_TINY, jax.random.key(0))


def step_of(model, config=CONFIG):
    return make_train_step(model.module, model.mesh, make_optimizer(config), config.targets)


def first_step(model, rates=None, piece_tokens=np.inf, unit_blocks=0):
    """State before, state after, losses and plan of the first step of `TASKS`."""
    plan = TrainPlan(TASKS, CONFIG, 1, pad_id=0, piece_tokens=piece_tokens)
    if unit_blocks:
        plan.__dict__['layout'] = dataclasses.replace(plan.layout, unit_blocks=unit_blocks)
    state = init_state(model.config, CONFIG, list(TASKS), model.mesh)
    before = jax.tree.map(np.array, state)  # copies: a view of the memory would keep it
    rates = plan.rates[0] if rates is None else rates
    after, loss = step_of(model)(
        model.params,
        state,
        plan.pack(0),
        rates,
        CONFIG.scale,
        plan.blocking(0),
        plan.layout.num_pieces,
    )
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.adapters))  # donated
    return before, jax.tree.map(np.asarray, after), np.asarray(loss), plan


def test_the_loss_is_the_mean_over_the_answer_tokens_of_a_batch(tiny):
    _, _, loss, plan = first_step(tiny)
    for adapter, task in enumerate(TASKS):
        rows = plan.rows(task, 0)
        batch = make_batch(rows, 4, *shape_of(rows), pad_id=0)
        logits = tiny.logits(batch.tokens, batch.segment_ids)  # b is 0: the base's
        log_probabilities = np.asarray(jax.nn.log_softmax(logits))
        nll = []
        for row, example in enumerate(rows):
            places = example.targets
            nll += (-log_probabilities[row, places - 1, batch.tokens[row, places]]).tolist()
        np.testing.assert_allclose(loss[adapter], np.mean(nll), rtol=1e-5)  # float32


def test_an_adapter_with_a_rate_of_zero_keeps_its_bits(tiny):
    before, after, _, _ = first_step(tiny, rates=jnp.array([1e-2, 0.0]))
    moved, still = (after.adapters['layers']['v_proj']['b'][i] for i in (0, 1))
    assert moved.any() and not still.any()
    jax.tree.map(
        lambda new, old: np.testing.assert_array_equal(new[1], old[1]),
        after.adapters, before.adapters,
    )  # fmt: skip


@pytest.mark.parametrize('units', [1, 2])
def test_pieces_give_the_losses_and_the_step_of_the_whole(tiny, units):
    """A piece of one unit is computed as one of a single adapter."""
    _, after, loss, whole = first_step(tiny)
    _, cut_after, cut_loss, cut = first_step(tiny, piece_tokens=40, unit_blocks=4 // units)
    assert cut.layout.num_pieces > 1 == whole.layout.num_pieces
    assert cut.pack(0).adapter_index.shape == (2, units)
    np.testing.assert_allclose(cut_loss, loss, rtol=1e-5)  # float32, sums in another order
    # Adam's first moments are the gradients, a step itself is nearly their signs; that of `a` is
    # zero while `b` is.
    moments, expected = (
        next(part.mu['layers'] for part in state.opt_state if hasattr(part, 'mu'))
        for state in (cut_after, after)
    )
    for name, entry in expected.items():
        difference = np.linalg.norm(moments[name]['b'] - entry['b'])
        assert difference <= 1e-5 * np.linalg.norm(entry['b']) > 0


def test_a_second_group_of_equal_shapes_compiles_nothing(tiny):
    train_adapters(tiny, TASKS, CONFIG, pad_id=0)
    compiled = []

    def listen(event, _, **kwargs):
        if event == '/jax/core/compile/backend_compile_duration':
            compiled.append(kwargs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        before = step_of(tiny)._cache_size()
        other = dataclasses.replace(CONFIG, seed=9, learning_rate=3e-3, repeat=1, alpha=4.0)
        tasks = {'c': make_examples(5, 4), 'd': make_examples(6, 3)}
        train_adapters(tiny, tasks, other, pad_id=0)
        assert compiled == []
        assert step_of(tiny, other)._cache_size() == before
        jax.jit(lambda x: 3 * x)(1.0)
        assert len(compiled) == 1  # the listener does hear
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
