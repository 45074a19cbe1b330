"""LoraHub: one weight for each adapter of the target, found on a few labels without gradients.

The baseline of those who have labels and no source adapter. Factors are combined and not updates,
so the result has the anchors' rank and terms that join the `a` of one with the `b` of another.

Source: Huang et al. 2023, arXiv 2307.13269: equation 2, its penalty 0.05 on the weights' absolute
sum, bounds of 1.5. Its optimizer, of the Nevergrad library, is replaced by the cross-entropy
method (Rubinstein 1999): draws from a normal distribution that moves to the best quarter.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from lorajax.errors import InputError
from lorajax.evaluation.inference import answer_nll
from lorajax.lora import pad_rank, stack
from lorajax.models import Model
from lorajax.rng import generator
from lorajax.tasks.chat import Encoded
from lorajax.types import Adapter

_PENALTY, _BOUND = 0.05, 1.5
_BEST, _FIRST_SPREAD, _LEAST_SPREAD = 4, 0.5, 0.02


def search(
    losses: Callable[[np.ndarray], np.ndarray], size: int, *, rounds: int, draws: int, seed: int
) -> np.ndarray:
    """Returns the weights of the lowest loss that were drawn; zeros are among them.

    Args:
      losses: maps float[draws, size] weights to float[draws].
      size: of the weights.
      rounds: how often weights are drawn.
      draws: of a round, more than 4.
      seed: of the draws.
    """
    rng = generator(seed, 'lorahub')
    center, spread = np.zeros(size), np.full(size, _FIRST_SPREAD)
    found, lowest = center, np.inf
    for _ in range(rounds):
        drawn = np.clip(center + spread * rng.standard_normal((draws, size)), -_BOUND, _BOUND)
        drawn[0] = center
        values = losses(drawn) + _PENALTY * np.abs(drawn).sum(axis=1)
        order = np.argsort(values)
        if values[order[0]] < lowest:
            found, lowest = drawn[order[0]], float(values[order[0]])
        kept = drawn[order[: max(draws // _BEST, 1)]]
        center, spread = kept.mean(axis=0), np.maximum(kept.std(axis=0), _LEAST_SPREAD)
    return found


def combine(anchors: Sequence[Adapter], weights: np.ndarray) -> Adapter:
    """Returns the adapter whose factors are weighted sums of the anchors', all of one rank."""

    def add(*leaves: np.ndarray) -> np.ndarray:
        return np.tensordot(weights, np.stack(leaves), 1).astype(np.float32)

    return jax.tree.map(add, *anchors)


def compose(
    model: Model,
    anchors: Mapping[str, Adapter],
    examples: Sequence[Encoded],
    *,
    pad_id: int,
    rounds: int = 12,
    draws: int = 16,
    seed: int = 0,
) -> Adapter:
    """Returns the composition of anchors that makes labelled examples the most likely.

    Args:
      model: the target.
      anchors: its adapters, by task, with the same projections.
      examples: labelled, a few.
      pad_id: fills the batch.
      rounds, draws, seed: see `search`; `rounds * draws` passes over the examples in all.

    Raises:
      InputError: without anchors or examples.
    """
    if not anchors or not examples:
        raise InputError('adapters are composed of anchors on examples; expected some of both')
    rank = max(np.shape(e['a'])[-1] for a in anchors.values() for e in a['layers'].values())
    wide = [pad_rank(adapter, rank) for adapter in anchors.values()]

    def losses(weights: np.ndarray) -> np.ndarray:
        tried = stack([combine(wide, row) for row in weights])
        return answer_nll(model, tried, examples, len(examples), pad_id).mean(axis=-1)

    found = search(losses, len(wide), rounds=rounds, draws=draws, seed=seed)
    return combine(wide, found)
