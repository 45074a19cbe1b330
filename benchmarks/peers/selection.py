"""Which of a teacher's answers, and which of their tokens, are the adapter's doing.

`pseudo_labels.select` keeps the answers of which the teacher is surest. The peers that train ask
otherwise: how much more likely the adapter makes an answer, or a token of it, than the bare source
model does (TiTok); whether a prompt looks like those of the task (Trans-LoRA). All functions are
of arrays; `token_losses` makes these arrays from a model.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from lorajax.evaluation.inference import on_mesh
from lorajax.models import Model
from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.tasks.batching import Batch, bucket, make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.types import Adapter, Params

_STEPS, _DECAY = 200, 1e-2  # of the discriminator's descent, of its weights


def best(scores: np.ndarray, count: int) -> list[int]:
    """Returns which rows have the highest scores, in the order of the rows.

    Args:
      scores: float[N]; rows of a score that is not finite are never kept.
      count: most rows to keep.
    """
    order = [int(i) for i in np.argsort(-scores, kind='stable') if np.isfinite(scores[i])]
    return sorted(order[:count])


@functools.partial(jax.jit, static_argnames=('module',))
def _nll(module: Transformer, params: Params, adapter: Adapter | None, batch: Batch) -> jax.Array:
    """Returns float32[B, M], nats of every target."""
    return target_nll(module, params, adapter, *batch)


def token_losses(
    model: Model, adapter: Adapter | None, rows: Sequence[Encoded], batch_size: int, pad_id: int
) -> list[np.ndarray]:
    """Returns the loss of every token that counts, float32[M] for each row, in nats.

    Args:
      model: the base.
      adapter: one, or None.
      rows: prompts with answers.
      batch_size: rows scored together.
      pad_id: fills the batch.
    """
    found: list[np.ndarray] = []
    length, targets = (bucket(n) for n in shape_of(rows))
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        batch = make_batch(some, batch_size, length, targets, pad_id)
        nll = np.asarray(_nll(model.module, model.params, adapter, on_mesh(model, batch)))
        found += [of_row[: len(row.targets)] for of_row, row in zip(nll, some, strict=False)]
    return found


def excess(adapted: Sequence[np.ndarray], bare: Sequence[np.ndarray]) -> np.ndarray:
    """Returns float[N], by how much the adapter makes answers more likely, in nats per token.

    Args:
      adapted: float[M] for each answer, losses of its tokens with the adapter.
      bare: the same without it.

    Source: TiTok (arXiv 2510.04682), its contrastive excess, as the mean over an answer.
    """
    return np.array([float((b - a).mean()) for a, b in zip(adapted, bare, strict=True)])


def carry(scores: np.ndarray, ends: np.ndarray, other_ends: np.ndarray) -> np.ndarray:
    """Returns scores of tokens for the tokens of another tokenizer on the same text.

    Each gets the mean over the characters that it covers; a token without characters the last
    score, as the token that ends an answer has none.

    Args:
      scores: float[M].
      ends: int[M], the character behind each token; they do not fall.
      other_ends: int[T], of the other tokenizer.

    Returns:
      float[T].
    """
    by_character = np.repeat(scores, np.diff(ends, prepend=0))
    carried = np.full(len(other_ends), scores[-1], np.float64)
    begin = 0
    for index, end in enumerate(other_ends):
        if end > begin:
            carried[index] = by_character[begin:end].mean() if begin < len(by_character) else 0.0
        begin = max(begin, int(end))
    return carried


def token_targets(scores: np.ndarray, share: float) -> np.ndarray:
    """Returns bool[M], which tokens of an answer are learned: those of the highest scores.

    The first is always among them, as training asks for it.

    Args:
      scores: float[M].
      share: of the tokens, rounded up.

    Source: TiTok (arXiv 2510.04682), its filter of tokens.
    """
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind='stable')[: int(np.ceil(share * len(scores)))]] = True
    kept[0] = True
    return kept


def likeness(own: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Returns float[P], how much each prompt of a pool looks like those of the task: log odds.

    A logistic regression is trained to tell the few from the pool, on features in units of the
    pool's deviations, both sides of equal weight.

    Args:
      own: float[N, D], features of prompts that are the task's, such as mean hidden states of
        the source model.
      pool: float[P, D], of prompts that may be of any kind.

    Source: the discriminator of Trans-LoRA (Wang et al. 2024, arXiv 2405.17258), there an adapter
    of the source model; here a linear one on what that model makes of the prompts.
    """
    center, spread = pool.mean(axis=0), pool.std(axis=0) + 1e-6
    x = np.concatenate([own, pool]).astype(np.float64)
    x = (x - center) / spread / np.sqrt(x.shape[1])
    is_own = np.arange(len(x)) < len(own)
    weight = np.where(is_own, 0.5 / len(own), 0.5 / len(pool))
    w, bias = np.zeros(x.shape[1]), 0.0
    for _ in range(_STEPS):
        wrong = weight * (1.0 / (1.0 + np.exp(-(x @ w + bias))) - is_own)
        w -= 4.0 * (x.T @ wrong + _DECAY * w)
        bias -= 4.0 * wrong.sum()
    return (x @ w + bias)[len(own) :]
