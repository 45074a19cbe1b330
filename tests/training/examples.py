"""A recipe, random examples, and how far two adapters are apart."""

import dataclasses

import numpy as np

from lorajax import lora
from lorajax.tasks.chat import Encoded
from lorajax.training import TrainConfig

CONFIG = TrainConfig(
    num_epochs=2, batch_size=4, learning_rate=1e-2, rank=4, alpha=8.0, targets=lora.TARGETS, seed=3
)
# Adam divides a gradient by its own size, so where a gradient is all rounding, rounding decides
# the direction of a whole step. With an epsilon far above rounding (gradients are clipped to a norm
# of 1, their elements are near 0.01) a step is as smooth as its gradient, and trainings that differ
# in nothing but the order of sums stay together.
SMOOTH = dataclasses.replace(CONFIG, epsilon=1e-3)


def make_examples(seed, count, vocab=80, prompts=(7, 9), answers=(2, 3)):
    """Random prompts and answers of uneven lengths, from and up to the given numbers of tokens.

    The first example is the longest and no batch is much shorter, so every batch of every such
    set has one shape, which is compiled once for all tests.
    """
    rng = np.random.default_rng(seed)

    def ids(length):
        return rng.integers(3, vocab, length).astype(np.int32)

    longest = Encoded(ids(prompts[1]), ids(answers[1]))
    others = [
        Encoded(ids(rng.integers(prompts[0], prompts[1] + 1)),
                ids(rng.integers(answers[0], answers[1] + 1)))
        for _ in range(count - 1)
    ]  # fmt: skip
    return [longest, *others]


def relative_distance(actual, expected):
    """Norm of the difference over the norm, of the worst leaf of two adapters.

    Norms and not single elements: rounding falls on elements at random, so the largest of many
    thousands depends on the CPU, while their norm hardly does.
    """
    return max(
        float(np.linalg.norm(actual['layers'][name][factor] - value) / np.linalg.norm(value))
        for name, entry in expected['layers'].items()
        for factor, value in entry.items()
    )
