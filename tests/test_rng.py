"""Random generators by purpose."""

import numpy as np

from lorajax.rng import generator


def test_equal_purposes_give_equal_streams_and_others_do_not():
    def draw(*purpose):
        return generator(*purpose).integers(2**31, size=4).tolist()

    assert draw(0, 'order', 'gsm8k', 2) == draw(0, 'order', 'gsm8k', 2)
    purposes = [
        (0, 'order', 'gsm8k', 2), (1, 'order', 'gsm8k', 2), (0, 'init', 'gsm8k', 2),
        (0, 'order', 'gsm8k', 3), (0, 'order', 'gsm8k2'), (0, 'order', 'gsm8k', 2, 'repeat', 1),
    ]  # fmt: skip
    assert len({tuple(draw(*purpose)) for purpose in purposes}) == len(purposes)


def test_streams_are_the_same_on_every_machine():
    # As drawn once. If a version of numpy draws others, runs that it resumes change their order.
    expected = [5, 4, 2, 6, 0, 7, 3, 1]
    np.testing.assert_array_equal(generator(0, 'order', 'gsm8k', 2).permutation(8), expected)
