"""Pretraining of the toy's models, and the two that ship."""

import jax
import numpy as np
import optax
import pytest

from lorajax import models, toy
from lorajax.models import random_model
from lorajax.toy import pretrain, tokenizer, world


def test_batches_are_sequences_of_the_world_with_tags_dropped():
    tokens = pretrain.batch(np.random.default_rng(0), world.DEFAULT, 400)
    assert tokens.shape == (400, 13) and tokens.dtype == np.int32
    dropped = []
    for row in tokens:
        words = tokenizer.backend().decode(row.tolist(), skip_special_tokens=True).split()
        domain, order, shift, given = words[0], words[1], words[2], words[3:7]
        answer = words[8:]
        assert words[7] == world.SEPARATOR and len(answer) == 4
        dropped += [order == world.UNKNOWN, shift == world.UNKNOWN]
        possible = [
            ' '.join(f.words(f.apply(np.array([world.LETTERS.index(w[1]) for w in given]))))
            for f in world.DEFAULT.functions
            if f.domain == domain
            and order in (f.order, world.UNKNOWN)
            and shift in (world.NUMBERS[f.shift], world.UNKNOWN)
        ]
        assert ' '.join(answer) in possible
    # 800 tags at 0.3: three standard errors are 0.049
    assert abs(np.mean(dropped) - pretrain.TAG_DROP) < 0.05


def test_a_few_steps_lower_the_loss():
    model = random_model(pretrain.CONFIGS['source'], jax.random.key(0))
    optimizer = optax.adamw(3e-3)
    params, losses = model.params, []
    state = optimizer.init(params)
    tokens = pretrain.batch(np.random.default_rng(0), world.DEFAULT, 16)
    for _ in range(8):
        params, state, loss = pretrain.train_step(model.module, optimizer, params, state, tokens)
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize('side', ['toy-source', 'toy-target'])
def test_shipped_models_apply_every_function_whose_tags_they_see(side):
    model = models.load_model(str(toy.MODELS[side]))
    rng = np.random.default_rng(0)
    right, blind = [], []
    for function in world.DEFAULT.functions:
        symbols = rng.integers(10, size=(8, 4))
        answers = [tokenizer.encode(' ' + ' '.join(function.words(function.apply(s))))
                   for s in symbols]  # fmt: skip
        for knows, found in ((True, right), (False, blind)):
            prompts = [tokenizer.encode(function.prompt(s, knows, knows) + ' =') for s in symbols]
            output = np.asarray(model.generate(np.array(prompts, np.int32), max_new_tokens=4))
            found += (output == np.array(answers)).all(-1).tolist()
    assert np.mean(right) >= 0.99
    assert np.mean(blind) <= 0.15  # one function of eight is the best guess


def test_checkpoints_together_stay_under_4_mb():
    files = [path for path in toy.CHECKPOINTS.rglob('*') if path.is_file()]
    assert files and sum(path.stat().st_size for path in files) < 4_000_000
