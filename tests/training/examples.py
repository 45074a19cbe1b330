"""A recipe and random examples that the tests of training share."""

import numpy as np

from lorajax import lora
from lorajax.tasks.chat import Encoded
from lorajax.training import TrainConfig

CONFIG = TrainConfig(
    num_epochs=2, batch_size=4, learning_rate=1e-2, rank=4, alpha=8.0, targets=lora.TARGETS, seed=3
)


def make_examples(seed, count, vocab=80, prompts=(3, 9), answers=(1, 5)):
    """Random prompts and answers of uneven lengths, from `low` to `high - 1` tokens."""
    rng = np.random.default_rng(seed)

    def ids(low, high):
        return rng.integers(3, vocab, rng.integers(low, high)).astype(np.int32)

    return [Encoded(ids(*prompts), ids(*answers)) for _ in range(count)]


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
