"""Pretraining of the toy's models, and the two that ship."""

import numpy as np
import pytest

from lorajax import models, toy
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


def test_answers_and_their_ends_are_the_targets():
    tokens = pretrain.batch(np.random.default_rng(0), world.DEFAULT, 3)
    batch = pretrain.of_answers(tokens)
    targets = np.take_along_axis(batch.tokens, batch.target_index, axis=1)
    for row, words in zip(tokens, targets, strict=True):
        text = tokenizer.backend().decode(row.tolist(), skip_special_tokens=False)
        answer = tokenizer.backend().decode(words.tolist(), skip_special_tokens=False)
        assert answer == text.split(world.SEPARATOR)[1] and answer.endswith(world.END)
    assert (batch.target_mask == 1).all() and (batch.segment_ids == 1).all()


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
