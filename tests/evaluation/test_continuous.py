"""Finished rows leave and waiting rows enter, and nobody says anything else for it."""

import dataclasses

import jax
import numpy as np
import pytest

from lorajax import models
from lorajax.evaluation import continuous, inference
from lorajax.lora import stack
from lorajax.models import decoding, presets
from lorajax.models.sampling import Sampling
from lorajax.tasks.batching import pad_left
from lorajax.tasks.chat import Encoded
from tests.models.identities import random_adapter

M = 8


@dataclasses.dataclass(frozen=True)
class Ids:
    """What decoding needs of a chat format."""

    stop_ids: tuple[int, ...]
    pad_id: int = 0


@pytest.fixture(scope='module')
def model():
    return models.random_model(presets.QWEN2_TINY, jax.random.key(0))


@pytest.fixture(scope='module')
def adapters(model):
    return [random_adapter(model.config, seed, ('o_proj', 'up_proj')) for seed in range(3)]


@pytest.fixture(scope='module')
def examples():
    rng = np.random.default_rng(0)

    def ids(count):
        return rng.integers(3, 97, count).astype(np.int32)

    return [Encoded(ids(rng.integers(3, 30)), ids(rng.integers(1, 6))) for _ in range(13)]


def without_queue(model, adapter, examples, ids, **options):
    """Answers to all prompts in one batch that nobody leaves or enters."""
    padded, mask = pad_left([e.prompt for e in examples], 13, 32, ids.pad_id)
    output = model.generate(
        padded, mask, adapter, max_new_tokens=M, eos_ids=ids.stop_ids, pad_id=ids.pad_id, **options
    )
    return np.asarray(output)[: len(examples)]


def test_rows_that_come_and_go_say_what_they_say_without(model, adapters, examples, monkeypatch):
    """Three adapters with four lanes each for thirteen prompts, some of which are cut."""
    ids = Ids(tuple(range(40, 97)))
    inserted = []
    insert = decoding.insert
    monkeypatch.setattr(
        decoding, 'insert',
        lambda *args, **options: inserted.append(int(args[5])) or insert(*args, **options),
    )  # fmt: skip
    done = []
    answers = continuous.answer(
        model, ids, stack(adapters), examples, batch_size=4, max_len=24, max_new_tokens=M,
        on_done=done.append,
    )  # fmt: skip
    cut = [dataclasses.replace(e, prompt=e.prompt[-24:]) for e in examples]
    for slot, adapter in enumerate(adapters):
        expected = without_queue(model, adapter, cut, ids)
        np.testing.assert_array_equal(answers.tokens[slot], expected)
        losses = inference.answer_nll(model, adapter, cut, 16, 0)
        np.testing.assert_allclose(answers.nll[slot], losses, rtol=1e-5)  # float32, other sums
    lengths = {int(count) for count in (answers.tokens != ids.pad_id).sum(-1).flat}
    assert len(lengths) > 3 and len(set(inserted)) == 3  # rows ended apart, and were replaced
    assert sum(done) == 3 * len(examples)


def test_answers_to_one_prompt_share_its_reading(model, adapters, examples):
    rng = np.random.default_rng(1)
    many = [
        Encoded(example.prompt, rng.integers(3, 97, size).astype(np.int32))
        for example in examples[:3]
        for size in (1, 4, 1, 6)
    ][:-1]  # the last prompt has fewer answers
    stacked = stack(adapters[:2])
    losses = inference.losses_after_prompts(model, stacked, many, 2, 0)
    expected = inference.answer_nll(model, stacked, many, 16, 0)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)  # float32, other sums


def test_draws_depend_on_key_and_example_alone(model, adapters, examples):
    ids, options = Ids((5,)), {'sampler': Sampling(1.5), 'key': jax.random.key(3)}
    answers = continuous.answer(
        model, ids, adapters[0], examples, batch_size=4, max_len=32, max_new_tokens=M, **options
    )
    expected = without_queue(model, adapters[0], examples, ids, **options)
    np.testing.assert_array_equal(answers.tokens[0], expected)


def test_the_base_alone_and_examples_without_answers(model, examples):
    bare = [dataclasses.replace(e, answer=np.zeros(0, np.int32)) for e in examples[:2]]
    answers = continuous.answer(
        model, Ids((5,)), None, bare, batch_size=8, max_len=64, max_new_tokens=M
    )
    np.testing.assert_array_equal(answers.tokens[0], without_queue(model, None, bare, Ids((5,))))
    assert not answers.nll.any()
