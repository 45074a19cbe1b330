"""Identities of the cache and the decode loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.models import decoding, step
from lorajax.models.prompts import read_prompts
from lorajax.models.sampling import Greedy, Sampling
from tests.models.identities import SHAPE, random_adapter, tokens_for


@pytest.fixture(scope='module')
def model():
    return models.random_model(SHAPE, jax.random.key(0))


def test_stacked_adapters_decode_like_one_after_the_other(model):
    tokens = tokens_for(model.config)
    adapters = [random_adapter(model.config, seed) for seed in range(3)]
    texts = model.generate(tokens, adapter=lora.stack(adapters), max_new_tokens=12)
    for row, adapter in zip(texts, adapters, strict=True):
        alone = model.generate(tokens, adapter=adapter, max_new_tokens=12)
        np.testing.assert_array_equal(row, alone)


def test_decoding_with_the_cache_equals_a_forward_pass_of_the_whole(model):
    tokens = tokens_for(model.config, (2, 7))
    adapter = random_adapter(model.config, 4)
    output = np.asarray(model.generate(tokens, adapter=adapter, max_new_tokens=9))
    whole = np.concatenate([tokens, output], axis=1)
    logits = np.asarray(model.logits(whole, adapter=adapter))[:, tokens.shape[1] - 1 : -1]
    np.testing.assert_array_equal(logits.argmax(-1), output)


def test_left_padding_changes_nothing(model):
    tokens = tokens_for(model.config, (1, 6))
    padded = np.concatenate([np.full((1, 5), 1, np.int32), tokens], axis=1)
    mask = (np.arange(11) >= 5).astype(np.int32)[None]
    np.testing.assert_array_equal(
        model.generate(padded, mask, max_new_tokens=8), model.generate(tokens, max_new_tokens=8)
    )


def test_stop_id_ends_a_row_and_padding_follows(model):
    tokens = tokens_for(model.config)
    free = np.asarray(model.generate(tokens, max_new_tokens=10))
    stop = int(free[0, 3])
    output = np.asarray(model.generate(tokens, max_new_tokens=10, eos_ids=(stop,), pad_id=2))
    for row, full in zip(output, free, strict=True):
        ends = np.flatnonzero(full == stop)
        end = ends[0] + 1 if len(ends) else 10
        np.testing.assert_array_equal(row[:end], full[:end])
        assert (row[end:] == 2).all()


def test_layers_apart_say_the_same(model, monkeypatch):
    tokens = tokens_for(model.config)
    adapters = lora.stack([random_adapter(model.config, seed) for seed in range(2)])
    expected = model.generate(tokens, adapter=adapters, max_new_tokens=8)
    monkeypatch.setattr(step, 'pays', lambda params: True)
    np.testing.assert_array_equal(
        model.generate(tokens, adapter=adapters, max_new_tokens=8), expected
    )


def test_what_a_row_draws_does_not_depend_on_the_others(model):
    tokens = tokens_for(model.config, (4, 6))
    adapters = [random_adapter(model.config, seed) for seed in range(2)]
    options = {'max_new_tokens': 6, 'sampler': Sampling(2.0), 'key': jax.random.key(5)}
    drawn = np.asarray(model.generate(tokens, adapter=lora.stack(adapters), **options))
    alone = model.generate(tokens, adapter=adapters[1], **options)
    np.testing.assert_array_equal(alone, drawn[1])
    alike = np.repeat(tokens[:1], 4, axis=0)
    same = np.asarray(model.generate(alike, adapter=lora.stack(adapters), **options))
    np.testing.assert_array_equal(same[:, 0], drawn[:, 0])  # whatever the other rows hold
    assert len({tuple(row) for row in same[0]}) == 4  # rows have keys of their own


def started(model, adapter, tokens, options, room=8):
    """A state that has read its prompts, with more slots than the output needs."""
    ones = jnp.ones_like(tokens)
    prompts = read_prompts(model.module, model.params, adapter, tokens, ones)
    keys = jnp.zeros((*tokens.shape[:-1], 2), jnp.uint32)
    return decoding.begin(
        model.module, model.params, prompts, keys, jnp.zeros(tokens.shape[:-1], bool),
        jnp.array([-1]), max_new_tokens=6, num_slots=room, split=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize('steps', [0, 1, 3])
def test_rows_that_enter_later_say_what_they_say_alone(model, steps):
    """The first rows stop after some steps; prompts of other lengths take over their lanes."""
    options = {'pad_id': 0, 'sampler': Greedy()}
    trees = [random_adapter(model.config, seed) for seed in range(2)]
    stacked = lora.stack(trees)
    tokens = jnp.array(tokens_for(model.config, (2, 3, 10)))
    alone = np.stack(
        [model.generate(part, adapter=tree, max_new_tokens=6)
         for part, tree in zip(tokens, trees, strict=True)]
    )  # fmt: skip
    state = started(model, stacked, tokens, options)
    state = state.replace(is_done=state.is_done.at[1, :2].set(steps == 0))
    stop = jnp.array([-1])
    if steps:  # the loop ends where the two rows do
        state = state.replace(count=state.count.at[1, :2].set(6 - steps))
        never = jnp.array([9, 2])
        state = decoding.decode(model.module, model.params, stacked, state, stop, never, **options)
    assert np.asarray(state.is_done).tolist() == [[False] * 3, [True, True, False]]
    late = jnp.array(tokens_for(model.config, (2, 4), seed=9))
    prompts = read_prompts(model.module, model.params, trees[1], late, jnp.ones_like(late))
    state = decoding.insert(
        model.module, model.params, state, prompts, jnp.zeros((2, 2), jnp.uint32), jnp.int32(1),
        jnp.array([1, 0]), stop, **options,
    )  # fmt: skip
    never = jnp.array([9, 9])
    state = decoding.decode(model.module, model.params, stacked, state, stop, never, **options)
    output = np.asarray(state.output)
    np.testing.assert_array_equal(output[0], alone[0])
    np.testing.assert_array_equal(output[1, 2], alone[1, 2])
    expected = model.generate(late, adapter=trees[1], max_new_tokens=6)
    np.testing.assert_array_equal(output[1, [1, 0]], expected)
