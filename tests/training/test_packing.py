"""Packed steps hold the same examples as padded ones, and give the same losses and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorajax import lora, models
from lorajax.models import presets
from lorajax.models.attention import Blocking
from lorajax.models.loss import packed_nll, target_nll
from lorajax.tasks.batching import make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.training.packing import (
    Layout,
    Shape,
    choose_shapes,
    length_of,
    make_layout,
)
from tests.training.examples import relative_distance

RNG = np.random.default_rng(0)


def ids(length):
    return RNG.integers(3, 80, length).astype(np.int32)


def conversation(*sizes):
    """A prompt, then answers and further prompts in turns, of these sizes."""
    is_target = np.concatenate([np.full(n, i % 2 == 0) for i, n in enumerate(sizes[1:])])
    return Encoded(ids(sizes[0]), ids(sum(sizes[1:])), is_target)


# The lengths of three adapters: one has conversations of several answers, one has ended.
CHOSEN = [
    [Encoded(ids(5), ids(14)), Encoded(ids(2), ids(1)), Encoded(ids(9), ids(4))],
    [conversation(3, 2, 4, 5), Encoded(ids(1), ids(7)), conversation(2, 1, 1, 1, 3, 2)],
    [],
]


def sizes_of(chosen):
    lengths = [np.array([length_of(e) for e in rows], np.int64) for rows in chosen]
    return lengths, [np.array([len(e.targets) for e in rows], np.int64) for rows in chosen]


@pytest.mark.parametrize('num_rows', [1, 2])
@pytest.mark.parametrize(('block', 'is_aligned'), [(4, False), (19, True)])
@pytest.mark.parametrize('unit_blocks', [1, 2])
def test_a_pack_holds_every_example_once_under_its_adapter(
    num_rows, block, is_aligned, unit_blocks
):
    layout = Layout(1, num_rows, len(CHOSEN), block, is_aligned, unit_blocks)
    need = layout.need(*sizes_of(CHOSEN))
    pack = layout.pack(CHOSEN, need, pad_id=99)
    assert pack.tokens.shape == (num_rows, need.tokens)
    found = []
    for row in range(num_rows):
        segments = pack.segment_ids[row]
        for segment in range(1, segments.max() + 1):
            places = np.flatnonzero(segments == segment)
            assert (np.diff(places) == 1).all()
            assert places[0] % block == 0 or not is_aligned
            # The first token's block can be seen from the last.
            assert places[-1] // block - places[0] // block <= need.lookback
            [adapter] = set(pack.adapter_index[row, places // layout.unit])
            here = pack.target_index[row][pack.target_mask[row] > 0]
            targets = here[np.isin(here, places)] - places[0]
            found.append((int(adapter), tuple(pack.tokens[row, places]), tuple(targets)))
    expected = [
        (adapter, (*e.prompt, *e.answer), tuple(e.targets))
        for adapter, rows in enumerate(CHOSEN)
        for e in rows
    ]
    assert sorted(found) == sorted(expected)
    assert (pack.tokens[pack.segment_ids == 0] == 99).all()
    assert pack.target_mask.sum() == sum(len(e.targets) for rows in CHOSEN for e in rows)


@pytest.fixture(scope='module')
def model():
    return models.random_model(presets.QWEN2_TINY, jax.random.key(0))


def random_adapter(config, seed):
    drawn = lora.init_adapter(
        jax.random.key(seed), config.projections, config.num_layers, 3, tuple(config.projections)
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32), drawn
    )


@pytest.mark.parametrize(('num_adapters', 'num_rows'), [(1, 1), (3, 2)])
def test_losses_and_gradients_are_those_of_padded_batches(model, num_adapters, num_rows):
    chosen = CHOSEN[1:2] if num_adapters == 1 else CHOSEN
    adapters = [random_adapter(model.config, seed) for seed in range(num_adapters)]
    layout = Layout(num_rows, 1, num_adapters, 4, is_aligned=False, unit_blocks=num_rows)
    need = layout.need(*sizes_of(chosen))
    pack = layout.pack(chosen, need, pad_id=0)
    weights = np.where(pack.target_mask > 0, 1 + pack.target_index % 3, 7.0)  # no mean hides here

    def packed(adapters):
        nll = packed_nll(model.module, model.params, adapters, *pack, Blocking(4, need.lookback))
        return (nll * weights).sum(), nll

    gradients, nll = jax.jit(jax.grad(packed, has_aux=True))(
        jax.tree.map(jnp.asarray, lora.stack(adapters))
    )
    found = lora.unstack(gradients)
    total = 0.0
    for index, (adapter, rows) in enumerate(zip(adapters, chosen, strict=True)):
        if not rows:
            assert not any(leaf.any() for leaf in jax.tree.leaves(found[index]))
            continue
        batch = make_batch(rows, 3, *shape_of(rows), pad_id=0)
        # The weight of a target goes by its place in the pack.
        places = [
            start + example.targets
            for example, start in zip(
                rows, layout.place(sizes_of(chosen)[0])[1][index], strict=True
            )
        ]
        weight = np.zeros_like(batch.target_mask)
        for row, place in enumerate(places):
            weight[row, : len(place)] = 1 + place % 3

        def padded(adapter, batch=batch, weight=weight):
            nll = target_nll(model.module, model.params, adapter, *batch)
            return (nll * weight).sum(), (nll * weight).sum()

        expected, value = jax.jit(jax.grad(padded, has_aux=True))(adapter)
        total += float(value)
        # Sums in another order; the gradients are compared in norm.
        assert relative_distance(found[index], jax.tree.map(np.asarray, expected)) <= 1e-5
    assert float((nll * weights).sum()) == pytest.approx(total, rel=1e-5)


def gsm8k_like(rng, count):
    """Lengths with mean 157, from 40 to 337 tokens, as of GSM8K rows."""
    return np.clip(rng.lognormal(5.0, 0.36, count), 40, 337).astype(np.int64)


@pytest.mark.parametrize('num_adapters', [1, 8])
def test_few_shapes_hold_uneven_examples_with_little_filling(num_adapters):
    rng = np.random.default_rng(0)
    steps = [[gsm8k_like(rng, 8) for _ in range(num_adapters)] for _ in range(100)]
    layout = make_layout(
        1, num_adapters, np.concatenate([n for step in steps for n in step]), 8, 640
    )
    needs = [layout.need(step, [n // 2 for n in step]) for step in steps]
    real = sum(n.sum() for step in steps for n in step)
    shapes = choose_shapes(needs, layout, program_tokens=1250.0 * num_adapters)
    assert len(set(shapes)) <= 16
    assert real / sum(layout.num_rows * shape.tokens for shape in shapes) >= 0.92
    for need, shape in zip(needs, shapes, strict=True):
        assert all(least <= size for least, size in zip(need, shape, strict=True))
        assert shape.tokens % layout.unit == 0
    assert layout.unit_blocks == (1 if num_adapters == 1 else 2)
    assert len(set(choose_shapes(needs, layout, program_tokens=1e9))) == 1


def test_examples_of_one_length_have_a_block_each_and_see_nothing_else():
    layout = make_layout(1, 2, np.array([13] * 20), 32)
    assert layout == Layout(1, 1, 2, 13, is_aligned=True, unit_blocks=32)
    lengths = [np.full(32, 13), np.full(32, 13)]
    assert layout.need(lengths, [np.full(32, 5)] * 2) == Shape(64 * 13, 64 * 5, 0)


def test_rows_of_a_mesh_share_the_work():
    layout = Layout(4, 1, 1, 32, is_aligned=False)
    lengths = [np.array([100, 90, 60, 50, 50, 40, 10, 0])]
    assert layout.need(lengths, [np.ones(8)]).tokens == 128  # of 400 tokens, 100 for each row


def test_pieces_of_even_examples_have_one_adapter_where_that_leaves_no_block_empty():
    layout = make_layout(1, 22, np.full(704, 13), 32, 640)
    assert (layout.num_pieces, layout.unit) == (22, 32 * 13)
    lengths, targets = [np.full(32, 13)] * 22, [np.full(32, 5)] * 22
    assert layout.need(lengths, targets).tokens == 32 * 13
    layout = make_layout(1, 3, np.full(90, 13), 30, 640)  # 90 examples in 45 units of two
    assert (layout.num_pieces, layout.unit) == (1, 2 * 13)
    layout = make_layout(1, 5, np.full(55, 13), 11, 300)
    assert layout.unit == 13 and layout.num_pieces * -(-55 // layout.num_pieces) <= 56


def test_uneven_examples_are_not_cut_into_pieces_that_cannot_be_filled():
    lengths = gsm8k_like(np.random.default_rng(0), 1000)
    assert make_layout(1, 1, lengths, 8, 640).num_pieces == 1
    assert make_layout(1, 8, lengths, 8, 640).num_pieces == 4
