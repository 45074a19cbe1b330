"""LoRA training against peft with torch's AdamW, and the properties of a group of adapters."""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.errors import ArgumentError, InputError
from lorajax.models import presets
from lorajax.training import TrainCheckpoints, TrainConfig, train_adapters
from tests.training.examples import CONFIG, SMOOTH, make_examples, relative_distance

TASKS = {'a': make_examples(1, 10), 'b': make_examples(2, 5)}
EPSILON = float(np.finfo(np.float32).eps)
RECIPES = {
    'defaults': {},  # warm-up, linear, clipping
    'constant': dict(schedule='constant', warmup_ratio=0.0, learning_rate=1e-3),
    'cosine, decay': dict(
        schedule='cosine', warmup_ratio=0.1, learning_rate=2e-3, weight_decay=0.01
    ),
}


@pytest.fixture(scope='module')
def tiny():
    return models.random_model(presets.QWEN2_TINY, jax.random.key(0))


@pytest.mark.parity
@pytest.mark.parametrize(
    ('family', 'recipes'),
    [
        pytest.param('qwen2', ('defaults', 'constant'), marks=pytest.mark.shipped, id='qwen2'),
        pytest.param('llama', ('defaults', 'cosine, decay'), id='llama'),
    ],
)
def test_losses_and_adapter_equal_those_of_peft_with_torch_adamw(tmp_path, family, recipes):
    """Both are held against peft in float64, in norms of whole projections.

    Two float32 trainings are each some rounding away from the exact one, and how far depends on
    the CPU. So ours may be twice as far from it as peft's own, and beyond that as far as optax's
    bias correction takes it: 1 - beta2**t in float32 is off by eps / 4 / (1 - beta2) at most for
    each unit of rounding, which makes early steps up to 3e-5 too short (see test_optimizer).
    """
    torch = pytest.importorskip('torch')
    pytest.importorskip('peft')
    from tests.models import reference
    from tests.training import training_reference

    reference.make(tmp_path / 'base', family, initializer_range=0.08)
    model = models.load_model(str(tmp_path / 'base'))
    defaults = TrainConfig()
    assert defaults.max_grad_norm == 1.0 and defaults.warmup_ratio > 0
    examples = make_examples(0, 8)  # two batches of four an epoch: 50 steps
    for name in recipes:
        config = dataclasses.replace(
            defaults, num_epochs=25, batch_size=4, targets=lora.TARGETS, **RECIPES[name]
        )
        ours = training_reference.with_lorajax(model, examples, config)
        peft, exact = (
            training_reference.with_peft(tmp_path / 'base', model.config, examples, config, dtype)
            for dtype in (torch.float32, torch.float64)
        )
        assert len(ours.losses) == len(peft.losses) == len(exact.losses) == 50
        distance = training_reference.differences(ours, exact)
        theirs = training_reference.differences(peft, exact)
        print(family, name, ours.losses[[0, -1]], distance, theirs)
        for part, value in distance.items():
            assert value <= 2 * theirs[part] + EPSILON / 4 / (1 - config.beta2), (name, part)
            assert theirs[part] <= 1e-4, 'peft itself is off, so the test shows nothing'
        if name != 'defaults':  # whose steps are small
            assert ours.losses[0] - ours.losses[-1] > 0.5


def test_an_adapter_trained_in_a_group_equals_the_one_trained_alone(tiny):
    together = train_adapters(tiny, TASKS, SMOOTH, pad_id=0)
    for name, examples in TASKS.items():
        alone = train_adapters(tiny, {name: examples}, SMOOTH, pad_id=0)[name]
        # Sums in another order, over 6 steps; the adapters of the two tasks are 1 apart.
        assert relative_distance(together[name], alone) <= 200 * EPSILON
    assert relative_distance(together['a'], together['b']) > 0.1


def test_recipes_may_differ_within_a_step_and_places_may_be_taken_again(tiny):
    """Each equals the one trained alone: rate, schedule, epochs, batch, rank, scale, targets."""
    everything = dataclasses.replace(SMOOTH, targets=lora.TARGETS, batch_size=4)
    configs = {
        'a': everything,
        'b': dataclasses.replace(
            everything, rank=2, alpha=6.0, targets=('q_proj', 'down_proj'), learning_rate=5e-3,
            schedule='constant', warmup_ratio=0.0,
        ),
        'c': dataclasses.replace(everything, num_epochs=1, batch_size=3, rank=3, seed=7),
    }  # fmt: skip
    tasks = TASKS | {'c': make_examples(3, 6)}
    given = {}
    trained = train_adapters(tiny, tasks, configs, pad_id=0, num_slots=2, on_done=given.__setitem__)
    assert list(trained) == ['a', 'b', 'c'] and list(given) == ['b', 'a', 'c']
    for name, config in configs.items():
        alone = train_adapters(tiny, {name: tasks[name]}, config, pad_id=0)[name]
        assert jax.tree.structure(trained[name]) == jax.tree.structure(alone)
        for left, right in zip(*map(jax.tree.leaves, (trained[name], alone)), strict=True):
            assert left.shape == right.shape and right.any()
        # Sums in another order, over 6 steps at most.
        assert relative_distance(trained[name], alone) <= 200 * EPSILON, name
    assert set(trained['b']['layers']) == {'q_proj', 'down_proj'}


def test_a_training_with_fewer_places_resumes_with_the_same_bits(tiny, tmp_path):
    tasks = TASKS | {'c': make_examples(3, 6)}  # 6, 4 and 4 steps; c follows b
    config = dataclasses.replace(SMOOTH, checkpoint_every=5)
    whole = train_adapters(tiny, tasks, config, pad_id=0, num_slots=2)

    class Killed(Exception):
        pass

    class Dying(TrainCheckpoints):
        def save(self, step, state):
            super().save(step, state)
            raise Killed

    given = {}
    with contextlib.closing(Dying(tmp_path / 'state')) as dying, pytest.raises(Killed):
        train_adapters(
            tiny, tasks, config, pad_id=0, num_slots=2, checkpoints=dying,
            on_done=given.__setitem__,
        )  # fmt: skip
    assert list(given) == ['b']
    with contextlib.closing(TrainCheckpoints(tmp_path / 'state')) as checkpoints:
        rest = train_adapters(
            tiny, tasks, config, pad_id=0, num_slots=2, checkpoints=checkpoints,
            on_done=given.__setitem__,
        )  # fmt: skip
    assert set(rest) == {'a', 'c'} and set(given) == set(tasks)
    jax.tree.map(np.testing.assert_array_equal, given, whole)


def test_recipes_of_a_group_share_the_constants_of_its_program(tiny):
    configs = {'a': CONFIG, 'b': dataclasses.replace(CONFIG, weight_decay=0.1)}
    with pytest.raises(ArgumentError, match=r'weight_decay .*expected 0\.0, as of the others'):
        train_adapters(tiny, TASKS, configs, pad_id=0)


def test_a_resumed_training_ends_with_the_same_bits(tiny, tmp_path):
    config = dataclasses.replace(SMOOTH, checkpoint_every=2)
    whole = train_adapters(tiny, TASKS, config, pad_id=0)

    class Killed(Exception):
        pass

    class Dying(TrainCheckpoints):
        def save(self, step, state):
            super().save(step, state)
            if step == 4:
                raise Killed

    with contextlib.closing(Dying(tmp_path / 'state')) as dying, pytest.raises(Killed):
        train_adapters(tiny, TASKS, config, pad_id=0, checkpoints=dying)
    steps = []

    class Counting(TrainCheckpoints):
        def save(self, step, state):
            super().save(step, state)
            steps.append(step)

    with contextlib.closing(Counting(tmp_path / 'state')) as checkpoints:
        resumed = train_adapters(tiny, TASKS, config, pad_id=0, checkpoints=checkpoints)
    assert steps == [6]  # the first four steps were not taken again
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    with contextlib.closing(Counting(tmp_path / 'state')) as checkpoints:
        again = train_adapters(tiny, TASKS, config, pad_id=0, checkpoints=checkpoints)
    assert steps == [6]  # and a finished one takes none
    jax.tree.map(np.testing.assert_array_equal, again, whole)


def test_training_goes_on_from_given_adapters(tiny):
    first = train_adapters(tiny, TASKS, SMOOTH, pad_id=0)
    still = dataclasses.replace(SMOOTH, learning_rate=0.0)
    same = train_adapters(tiny, TASKS, still, pad_id=0, start_from=first)
    # The scale 2 is taken out and put in again, which is exact.
    jax.tree.map(np.testing.assert_array_equal, same, first)
    fresh = train_adapters(tiny, TASKS, still, pad_id=0)
    assert not np.asarray(fresh['a']['layers']['q_proj']['b']).any()
    low = dataclasses.replace(SMOOTH, rank=1)
    with pytest.raises(InputError, match=f'a: .* has rank {SMOOTH.rank}, the recipe 1;'):
        train_adapters(tiny, TASKS, low, pad_id=0, start_from=first)


def test_a_loss_that_is_not_finite_names_task_and_step(tiny):
    config = dataclasses.replace(SMOOTH, learning_rate=1e30)
    with pytest.raises(InputError, match=r'^mine: loss of a is (nan|inf) at step 1; try a lower l'):
        train_adapters(tiny, TASKS, config, pad_id=0, label='mine')


def test_targets_that_the_model_lacks_and_tasks_without_examples_are_refused(tiny):
    for targets in ((), ('q_proj', 'w_proj')):
        config = dataclasses.replace(CONFIG, targets=targets)
        with pytest.raises(ArgumentError, match=r'lora_targets .*expected some of q_proj, k_proj'):
            train_adapters(tiny, TASKS, config, pad_id=0)
    with pytest.raises(InputError, match='c: has no training examples'):
        train_adapters(tiny, {**TASKS, 'c': []}, CONFIG, pad_id=0)


@pytest.fixture(scope='module')
def distances():
    """How far trainings on meshes of forced host devices are from one device."""
    done = subprocess.run(
        [sys.executable, '-m', 'tests.training.sharded_training'],
        capture_output=True, text=True, check=False, cwd=pathlib.Path(__file__).parents[2],
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    'case', ['all axes', 'fsdp', 'data', 'key/value heads replicated', 'six rows on four devices']
)
def test_sharded_training_equals_one_device(distances, case):
    adapters, losses = distances[case]
    # Sums in another order, over 4 steps.
    assert adapters <= 200 * EPSILON and losses <= 20 * EPSILON
