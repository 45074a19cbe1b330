"""The scale goes into `b` and comes out again."""

import numpy as np
import pytest

from lorajax.lora.peft import scale

SCALES = [2.0, 1.5, 10 / 12, 20 / 12**0.5, 1 / 3, 1e-3, 300.0]
DRAWN = np.random.default_rng(0).normal(0, 0.05, 100_000).astype(np.float32)


def units(first, second):
    """Returns int32, by how many float32 numbers two arrays differ."""
    return np.abs(first.view(np.int32) - second.view(np.int32))


@pytest.mark.parametrize('factor', SCALES)
def test_what_was_scaled_comes_out_to_go_in_again_and_no_float32_is_overlooked(factor):
    folded = scale.fold(DRAWN, factor)
    assert scale.same_bits(scale.fold(scale.unfold(folded, factor), factor), folded).all()
    reached = scale.same_bits(scale.fold(scale.unfold(DRAWN, factor), factor), DRAWN)
    near = (DRAWN / np.float32(factor)).view(np.int32)
    tried = [(near + step).view(np.float32) for step in range(-3, 4)]
    exists = np.any([scale.same_bits(scale.fold(t, factor), DRAWN) for t in tried], axis=0)
    np.testing.assert_array_equal(reached, exists)


@pytest.mark.parametrize('factor', SCALES)
def test_any_number_comes_back_to_the_last_bit_but_one(factor):
    normal = np.ldexp(np.float32(1), np.arange(-110, 100), dtype=np.float32)
    numbers = np.concatenate([DRAWN, normal, -normal, np.float32([0.0, -0.0])])
    again = scale.fold(scale.unfold(numbers, factor), factor)
    assert units(again, numbers).max() <= (0 if factor == 2.0 else 1)


def test_folding_is_the_product_in_float32():
    b = np.float32([[1, 2], [3, 4]])
    np.testing.assert_array_equal(scale.fold(b.astype('bfloat16'), 1 / 3), b * np.float32(1 / 3))
    assert scale.fold(b.astype(np.float64), 0.5).dtype == np.float32
    assert np.isinf(scale.fold(np.float32([3e38]), 10.0)).all()


def test_bits_tell_zeros_and_nans_apart():
    x, y = np.float32([0.0, 1.0, np.nan]), np.float32([-0.0, 1.0, np.nan])
    assert scale.same_bits(x, y).tolist() == [False, True, True]
