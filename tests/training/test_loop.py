"""LoRA training against peft with torch's AdamW, and the properties of the grouped step."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.errors import InputError
from lorajax.models import presets
from lorajax.tasks.chat import Encoded
from lorajax.training import loop
from lorajax.training.checkpoint import TrainCheckpoints

CONFIG = loop.TrainConfig(
    num_epochs=2, batch_size=4, learning_rate=1e-2, rank=4, alpha=8.0, targets=lora.TARGETS, seed=3
)


def make_examples(seed, count, vocab=80):
    """Random prompts and answers of uneven lengths."""
    rng = np.random.default_rng(seed)

    def ids(low, high):
        return rng.integers(3, vocab, rng.integers(low, high)).astype(np.int32)

    return [Encoded(ids(3, 9), ids(1, 5)) for _ in range(count)]


@pytest.fixture(scope='module')
def tiny():
    return models.random_model(presets.QWEN2_TINY, jax.random.key(0))


RECIPES = {
    'defaults': {},  # warm-up, linear, clipping
    'constant': dict(schedule='constant', warmup_ratio=0.0, learning_rate=1e-3),
    'cosine, decay': dict(
        schedule='cosine', warmup_ratio=0.1, learning_rate=2e-3, weight_decay=0.01
    ),
}


@pytest.mark.parity
@pytest.mark.parametrize(
    ('family', 'recipes'),
    [('qwen2', ('defaults', 'constant')), ('llama', ('defaults', 'cosine, decay'))],
)
def test_losses_and_adapter_equal_those_of_peft_with_torch_adamw(tmp_path, family, recipes):
    pytest.importorskip('torch')
    pytest.importorskip('peft')
    from tests.models import reference, training_reference

    reference.make(tmp_path / 'base', family, initializer_range=0.08)
    model = models.load_model(str(tmp_path / 'base'))
    defaults = loop.TrainConfig()
    assert defaults.max_grad_norm == 1.0 and defaults.warmup_ratio > 0
    examples = make_examples(0, 8)  # two batches of four an epoch: 50 steps
    for name in recipes:
        config = dataclasses.replace(
            defaults, num_epochs=25, batch_size=4, targets=lora.TARGETS, **RECIPES[name]
        )
        ours = training_reference.with_lorajax(model, examples, config)
        theirs = training_reference.with_peft(tmp_path / 'base', model.config, examples, config)
        assert len(ours.losses) == len(theirs.losses) == 50
        found = training_reference.differences(ours, theirs)
        print(family, name, ours.losses[[0, -1]], found)
        assert max(found.values()) <= 1e-4, name
        if name != 'defaults':  # whose steps are small
            assert ours.losses[0] - ours.losses[-1] > 0.5


def test_early_steps_of_adamw_have_their_length():
    # A first step of Adam moves every element by the rate, whatever its gradient. optax's own
    # correction of the second moment makes it 7e-6 shorter.
    optimizer = loop.make_optimizer(CONFIG)
    value = np.linspace(1, 2, 8).astype(np.float32)
    state = optimizer.init(value)
    for count in range(1, 40):  # a constant gradient: both moments equal it at every step
        updates, state = optimizer.update(value, state, value)
        np.testing.assert_allclose(updates, 1.0, rtol=1e-6, err_msg=str(count))


def test_an_adapter_trained_in_a_group_equals_the_one_trained_alone(tiny):
    tasks = {'a': make_examples(1, 10), 'b': make_examples(2, 5)}
    together = loop.train_adapters(tiny, tasks, CONFIG, pad_id=0)
    for name, examples in tasks.items():
        alone = loop.train_adapters(tiny, {name: examples}, CONFIG, pad_id=0)[name]
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), together[name], alone
        )


def test_a_resumed_training_ends_with_the_same_bits(tiny, tmp_path):
    tasks = {'a': make_examples(1, 10), 'b': make_examples(2, 5)}
    config = dataclasses.replace(CONFIG, checkpoint_every=2)
    whole = loop.train_adapters(tiny, tasks, config, pad_id=0)

    class Killed(Exception):
        pass

    class Dying(TrainCheckpoints):
        def save(self, step, state):
            super().save(step, state)
            if step == 4:
                raise Killed

    dying = Dying(tmp_path / 'state')
    with pytest.raises(Killed):
        loop.train_adapters(tiny, tasks, config, pad_id=0, checkpoints=dying)
    dying.close()
    checkpoints = TrainCheckpoints(tmp_path / 'state')
    resumed = loop.train_adapters(tiny, tasks, config, pad_id=0, checkpoints=checkpoints)
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def test_only_targets_are_trained_and_initial_a_is_shared(tiny):
    config = dataclasses.replace(CONFIG, targets=('q_proj', 'down_proj'))
    state = loop.init_state(tiny.config, config, ['a', 'b'])
    assert set(state.adapters['layers']) == {'q_proj', 'down_proj'}
    for entry in state.adapters['layers'].values():
        np.testing.assert_array_equal(entry['a'][0], entry['a'][1])
        assert not np.asarray(entry['b']).any()
        assert np.abs(np.asarray(entry['a'])).max() <= entry['a'].shape[2] ** -0.5
        assert not np.array_equal(entry['a'][0, 0], entry['a'][0, 1])  # layers differ


def test_separate_init_depends_on_the_task_and_not_on_its_company(tiny):
    config = dataclasses.replace(CONFIG, separate_init=True)

    def first(*tasks, repeat=0):
        chosen = dataclasses.replace(config, repeat=repeat)
        state = loop.init_state(tiny.config, chosen, tasks)
        return np.asarray(state.adapters['layers']['q_proj']['a'])

    both = first('a', 'b')
    assert np.abs(both[0] - both[1]).max() > 0.01
    np.testing.assert_array_equal(both[1], first('b')[0])
    assert np.abs(first('a', repeat=1)[0] - both[0]).max() > 0.01


def test_a_repeated_training_differs_in_the_order_of_the_data_alone(tiny):
    again = dataclasses.replace(CONFIG, repeat=1)
    states = [loop.init_state(tiny.config, c, ['a']).adapters for c in (CONFIG, again)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    plans = [loop._Plan({'a': make_examples(1, 10)}, c) for c in (CONFIG, again)]
    prompts = [
        [tuple(row.prompt) for step in range(3) for row in plan.rows('a', step)] for plan in plans
    ]
    assert len(prompts[0]) == 10 and prompts[0] != prompts[1]
    assert sorted(prompts[0]) == sorted(prompts[1])


def test_training_goes_on_from_given_adapters(tiny):
    tasks = {'a': make_examples(1, 10), 'b': make_examples(2, 10)}
    first = loop.train_adapters(tiny, tasks, CONFIG, pad_id=0)
    still = dataclasses.replace(CONFIG, learning_rate=0.0)
    same = loop.train_adapters(tiny, tasks, still, pad_id=0, start_from=first)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), same, first)
    fresh = loop.train_adapters(tiny, tasks, still, pad_id=0)
    assert not np.asarray(fresh['a']['layers']['q_proj']['b']).any()


def test_schedule_rises_then_falls():
    config = dataclasses.replace(CONFIG, schedule='linear', warmup_ratio=0.1, learning_rate=1.0)
    steps = np.arange(100)
    rates = np.asarray(loop.learning_rate(config, steps, np.full(100, 100)))
    peak = rates.argmax()
    assert 8 <= peak <= 11 and rates[peak] == pytest.approx(1.0, abs=0.02)
    assert (np.diff(rates[: peak + 1]) > 0).all() and (np.diff(rates[peak:]) < 0).all()
    assert rates[0] > 0 and rates[-1] < 0.02


@pytest.mark.parity
@pytest.mark.parametrize('name', ['linear', 'cosine', 'constant'])
def test_schedules_without_warm_up_are_those_of_transformers(name):
    torch = pytest.importorskip('torch')
    transformers = pytest.importorskip('transformers')
    config = loop.TrainConfig(schedule=name, warmup_ratio=0.0, learning_rate=2e-4)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2e-4)
    scheduler = transformers.get_scheduler(name, optimizer, 0, 50)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    rates = loop.learning_rate(config, np.arange(50), np.full(50, 50))
    np.testing.assert_allclose(rates, expected, atol=2e-4 * 1e-6)


def test_a_loss_that_is_not_finite_names_task_and_step(tiny):
    config = dataclasses.replace(CONFIG, learning_rate=1e30, max_grad_norm=1e30)
    with pytest.raises(InputError, match=r'loss of a is (nan|inf) at step .*--learning_rate'):
        loop.train_adapters(tiny, {'a': make_examples(1, 20)}, config, pad_id=0)


@pytest.mark.parametrize('shape', [(2, 2, 2), (1, 8, 1), (8, 1, 1)])
def test_sharded_training_equals_one_device(tmp_path, shape):
    """Runs in a process of its own, where the CPU pretends to be eight devices."""
    import os
    import subprocess
    import sys

    script = f"""
import jax, numpy as np, dataclasses
from lorajax import models, sharding, lora
from lorajax.models import presets
from lorajax.models.hf import checkpoint
from lorajax.training import loop
from lorajax.models.model import param_shardings
from tests.training.test_loop import CONFIG, make_examples
cfg = dataclasses.replace(presets.LLAMA3_TINY, vocab_size=96)
config = dataclasses.replace(CONFIG, batch_size=8)
tasks = {{'a': make_examples(1, 10), 'b': make_examples(2, 24)}}
results = []
for mesh in (sharding.make_mesh((1, 1, 1), jax.devices()[:1]), sharding.make_mesh({shape})):
    model = models.random_model(cfg, jax.random.key(0), mesh=mesh)
    flat = checkpoint.flatten(model.params)
    where = param_shardings(mesh, cfg)
    assert set(where) == set(flat)
    params = checkpoint.unflatten({{k: jax.device_put(v, where[k]) for k, v in flat.items()}})
    model = dataclasses.replace(model, params=params)
    results.append(loop.train_adapters(model, tasks, config, pad_id=0))
jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-4), *results)
print('same')
"""
    env = {**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=8'}
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, env=env, check=False
    )
    assert done.stdout.strip() == 'same', done.stderr[-2000:]


@pytest.mark.parity
def test_the_defaults_of_trainer_and_peft_are_what_the_docstring_says():
    peft = pytest.importorskip('peft')
    transformers = pytest.importorskip('transformers')
    theirs = {
        f.name: f.default
        for cls in (transformers.TrainingArguments, peft.LoraConfig)
        for f in dataclasses.fields(cls)
    }
    names = {
        'num_epochs': 'num_train_epochs', 'batch_size': 'per_device_train_batch_size',
        'schedule': 'lr_scheduler_type', 'warmup_ratio': 'warmup_steps', 'beta1': 'adam_beta1',
        'beta2': 'adam_beta2', 'epsilon': 'adam_epsilon', 'rank': 'r', 'alpha': 'lora_alpha',
    }  # fmt: skip
    text = ' '.join(loop.TrainConfig.__doc__.split())
    claims = re.findall(r' (\w+): [^:]*?\((?:Trainer|PEFT): ([^,) ]+)', text)
    assert len(claims) == 14
    same = set()
    for name, claim in claims:
        ours = getattr(loop.TrainConfig(), name)
        if name == 'targets':
            mapping = peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
            assert mapping['qwen2'] == mapping['llama'] == ['q_proj', 'v_proj']
            continue
        value = theirs[names.get(name, name)]
        if claim == 'the':  # same
            assert ours == value, name
            same.add(name)
        else:
            assert float(claim) == value != ours, name
    assert same == {
        'num_epochs', 'batch_size', 'schedule', 'weight_decay', 'beta1', 'beta2', 'epsilon',
        'max_grad_norm',
    }  # fmt: skip
    assert theirs['lora_dropout'] == 0.0


def test_tiny_presets_cover_both_families():
    assert {presets.QWEN2_TINY.family, presets.LLAMA3_TINY.family} == {'qwen2', 'llama'}
