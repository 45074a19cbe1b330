"""What each adapter sees at each step."""

import dataclasses

import numpy as np

from lorajax.training.optimizer import learning_rates
from lorajax.training.plan import TrainPlan
from tests.training.examples import CONFIG, make_examples

TASKS = {'a': make_examples(1, 10), 'b': make_examples(2, 5)}


def prompts(plan, task, steps):
    return [tuple(row.prompt) for step in steps for row in plan.rows(task, step)]


def test_an_epoch_sees_every_example_once_and_epochs_differ_in_order():
    plan = TrainPlan(TASKS, CONFIG, CONFIG.batch_size, pad_id=0)
    assert list(plan.num_steps) == [6, 4]  # 2 epochs of ceil(10 / 4) and of ceil(5 / 4) batches
    every = sorted(tuple(e.prompt) for e in TASKS['a'])
    epochs = [prompts(plan, 'a', range(3)), prompts(plan, 'a', range(3, 6))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == every
    assert epochs[0] != epochs[1]


def test_a_repeated_training_differs_in_the_order_of_the_data_alone():
    configs = CONFIG, dataclasses.replace(CONFIG, repeat=1)
    first, second = (
        prompts(TrainPlan({'a': TASKS['a']}, config, 4, pad_id=0), 'a', range(3))
        for config in configs
    )
    assert len(first) == 10 and first != second
    assert sorted(first) == sorted(second)


def test_a_step_does_not_depend_on_the_company_or_on_earlier_steps():
    together = TrainPlan(TASKS, CONFIG, CONFIG.batch_size, pad_id=0)
    alone = TrainPlan({'b': TASKS['b']}, CONFIG, CONFIG.batch_size, pad_id=0)
    late = alone.rows('b', 3)
    assert [e is f for e, f in zip(late, together.rows('b', 3), strict=True)] == [True] * len(late)


def test_rates_are_each_adapters_own_and_zero_when_it_has_ended():
    plan = TrainPlan(TASKS, CONFIG, CONFIG.batch_size, pad_id=0)
    assert plan.rates.shape == (6, 2)
    np.testing.assert_array_equal(plan.rates[:, 0], learning_rates(CONFIG, 6))
    np.testing.assert_array_equal(plan.rates[:4, 1], learning_rates(CONFIG, 4))
    assert (plan.rates[4:, 1] == 0).all() and (plan.rates[:4] > 0).all()
    assert list(plan.is_active(3)) == [True, True] and list(plan.is_active(4)) == [True, False]


def test_batches_hold_the_rows_and_nothing_in_the_rows_added_for_the_mesh():
    plan = TrainPlan(TASKS, CONFIG, 8, pad_id=7)
    batch = plan.batch(0)
    assert batch.tokens.shape[:2] == batch.target_mask.shape[:2] == (2, 8)
    for adapter, task in enumerate(TASKS):
        for row, example in enumerate(plan.rows(task, 0)):
            stop = len(example.prompt) + len(example.answer)
            np.testing.assert_array_equal(
                batch.tokens[adapter, row, :stop], np.concatenate([example.prompt, example.answer])
            )
            assert batch.target_mask[adapter, row].sum() == len(example.targets)
    assert not batch.segment_ids[:, 4:].any() and not batch.target_mask[:, 4:].any()
    assert (batch.tokens[:, 4:] == 7).all()
    ended = plan.batch(5)
    assert ended.segment_ids[0].any() and not ended.segment_ids[1].any()


def test_no_batch_is_longer_than_the_longest_example():
    plan = TrainPlan(TASKS, CONFIG, 4, pad_id=0)
    longest = max(len(e.prompt) + len(e.answer) for rows in TASKS.values() for e in rows)
    assert max(plan.batch(step).tokens.shape[-1] for step in range(6)) <= longest
