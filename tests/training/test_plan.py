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
    plan = TrainPlan(TASKS, CONFIG, 1, pad_id=0)
    assert list(plan.num_steps) == [6, 4]  # 2 epochs of ceil(10 / 4) and of ceil(5 / 4) batches
    every = sorted(tuple(e.prompt) for e in TASKS['a'])
    epochs = [prompts(plan, 'a', range(3)), prompts(plan, 'a', range(3, 6))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == every
    assert epochs[0] != epochs[1]


def test_a_repeated_training_differs_in_the_order_of_the_data_alone():
    configs = CONFIG, dataclasses.replace(CONFIG, repeat=1)
    first, second = (
        prompts(TrainPlan({'a': TASKS['a']}, config, 1, pad_id=0), 'a', range(3))
        for config in configs
    )
    assert len(first) == 10 and first != second
    assert sorted(first) == sorted(second)


def test_a_step_does_not_depend_on_the_company_or_on_earlier_steps():
    together = TrainPlan(TASKS, CONFIG, 1, pad_id=0)
    alone = TrainPlan({'b': TASKS['b']}, CONFIG, 1, pad_id=0)
    late = alone.rows('b', 3)
    assert [e is f for e, f in zip(late, together.rows('b', 3), strict=True)] == [True] * len(late)


def test_rates_are_each_adapters_own_and_zero_when_it_has_ended():
    plan = TrainPlan(TASKS, CONFIG, 1, pad_id=0)
    assert plan.rates.shape == (6, 2)
    np.testing.assert_array_equal(plan.rates[:, 0], learning_rates(CONFIG, 6))
    np.testing.assert_array_equal(plan.rates[:4, 1], learning_rates(CONFIG, 4))
    assert (plan.rates[4:, 1] == 0).all() and (plan.rates[:4] > 0).all()
    assert list(plan.slots.occupants[3]) == [0, 1] and list(plan.slots.occupants[4]) == [0, -1]


def test_a_pack_holds_the_rows_and_nothing_of_adapters_that_have_ended():
    plan = TrainPlan(TASKS, CONFIG, 1, pad_id=7)
    for step in (0, 5):
        pack, shape = plan.pack(step), plan.shapes[step]
        rows = {task: plan.rows(task, step) for task in TASKS}
        if step == 5:
            del rows['b']
        expected = sum(len(e.prompt) + len(e.answer) for found in rows.values() for e in found)
        assert np.count_nonzero(pack.segment_ids) == expected
        assert (
            pack.tokens.shape == (1, shape.tokens) and pack.target_index.shape[1] == shape.targets
        )
        assert pack.target_mask.sum() == sum(
            len(e.targets) for found in rows.values() for e in found
        )


def test_programs_that_are_dear_are_fewer():
    cheap, dear = (TrainPlan(TASKS, CONFIG, 1, 0, cost) for cost in (0.0, 1e6))
    assert len(set(cheap.shapes)) > 1 == len(set(dear.shapes))
    assert max(cheap.shapes).tokens == dear.shapes[0].tokens


def test_with_fewer_places_than_adapters_each_sees_what_it_would_see_alone():
    configs = {
        'a': dataclasses.replace(CONFIG, learning_rate=1e-3),
        'b': dataclasses.replace(CONFIG, rank=2, alpha=6.0),
    }
    plan = TrainPlan(TASKS, configs, 1, pad_id=0, num_slots=1)
    assert plan.rates.shape == (10, 1)  # six steps of a, then four of b
    np.testing.assert_array_equal(plan.rates[:6, 0], learning_rates(configs['a'], 6))
    np.testing.assert_array_equal(plan.rates[6:, 0], learning_rates(configs['b'], 4))
    assert plan.scales(5).tolist() == [CONFIG.scale] and plan.scales(6).tolist() == [3.0]
    for task, first, count in (('a', 0, 6), ('b', 6, 4)):
        alone = TrainPlan({task: TASKS[task]}, configs[task], 1, pad_id=0)
        for step in range(count):
            expected, pack = alone.pack(step), plan.pack(first + step)
            real, wanted = (p.tokens[p.segment_ids > 0] for p in (pack, expected))
            np.testing.assert_array_equal(real, wanted)


def test_recipes_of_one_data_order_see_the_same_batches():
    config = dataclasses.replace(CONFIG, data_order='a')
    plans = [TrainPlan({name: TASKS['a']}, config, 1, pad_id=0) for name in ('a', 'other')]
    plans.append(TrainPlan({'a': TASKS['a']}, CONFIG, 1, pad_id=0))
    seen = [
        prompts(plan, name, range(6)) for plan, name in zip(plans, ('a', 'other', 'a'), strict=True)
    ]
    assert seen[0] == seen[1] == seen[2]
