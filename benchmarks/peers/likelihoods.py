"""Adapters that match how likely a teacher finds its answers, chunk by chunk.

Two tokenizers cut an answer at other places; between two places that they share lies a chunk, and
both models say how likely it is. Learning a hard answer draws every chunk's likelihood to one; here
it is drawn to the teacher's.

Source: ALM (Minixhofer et al. 2025, arXiv 2503.20083), equations 4 to 6, with binary chunks.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lorajax.lora.tree import fold_scale
from lorajax.models import Model
from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.tasks.batching import Batch, bucket, make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.training import TrainConfig
from lorajax.training.optimizer import learning_rates, make_optimizer
from lorajax.types import Adapter, Params

_LEAST = 1e-6  # nats that the likelihood of a chunk stays below 1


class Chunks(NamedTuple):
    """How an answer is cut.

    Attributes:
      teacher: int[M], the chunk of each of the teacher's tokens.
      student: int[T], of each of the student's.
    """

    teacher: np.ndarray
    student: np.ndarray


def chunks(ends: np.ndarray, other_ends: np.ndarray) -> Chunks:
    """Cuts an answer where both tokenizers do; what ends it is the last chunk's.

    Args:
      ends: int[M], the character behind each of the teacher's tokens; they do not fall.
      other_ends: int[T], of the student's.
    """
    shared = np.intersect1d(ends, other_ends)
    last = max(len(shared) - 1, 0)
    cut = [np.minimum(np.searchsorted(shared, side), last) for side in (ends, other_ends)]
    return Chunks(*cut)


class Matched(NamedTuple):
    """An answer to learn.

    Attributes:
      encoded: prompt and answer in the student's tokens.
      chunk: int[T], of each token of the answer.
      wanted: float[C], log likelihood of each chunk under the teacher.
    """

    encoded: Encoded
    chunk: np.ndarray
    wanted: np.ndarray


def matched(encoded: Encoded, cut: Chunks, losses: np.ndarray) -> Matched:
    """Returns an answer with the teacher's likelihoods, from its losses float[M] of the tokens."""
    wanted = np.zeros(int(cut.student.max()) + 1)
    np.subtract.at(wanted, cut.teacher, losses)
    return Matched(encoded, cut.student, wanted)


def divergence(wanted: jax.Array, found: jax.Array) -> jax.Array:
    """Returns the binary Kullback-Leibler divergence of log likelihoods, in nats, elementwise."""
    wanted, found = jnp.minimum(wanted, -_LEAST), jnp.minimum(found, -_LEAST)
    against, others = jnp.log(-jnp.expm1(wanted)), jnp.log(-jnp.expm1(found))
    return jnp.exp(wanted) * (wanted - found) + jnp.exp(against) * (against - others)


class _Step(NamedTuple):
    """The rows of a step."""

    batch: Batch
    chunk: np.ndarray  # int32[B, M]
    wanted: np.ndarray  # float32[B, C]
    is_chunk: np.ndarray  # float32[B, C]


@functools.partial(jax.jit, static_argnames=('module', 'optimizer'), donate_argnums=(3, 4))
def _take_step(
    module: Transformer,
    optimizer: optax.GradientTransformation,
    params: Params,
    adapter: Adapter,
    opt_state: optax.OptState,
    rows: _Step,
    rate: jax.Array,
    scale: float,
) -> tuple[Adapter, optax.OptState]:
    """Takes one step of AdamW."""

    def loss(adapter: Adapter) -> jax.Array:
        nll = target_nll(module, params, fold_scale(adapter, scale), *rows.batch)
        place = jax.nn.one_hot(rows.chunk, rows.wanted.shape[1])  # B M C
        found = -jnp.einsum('bm,bmc->bc', nll, place)
        return (
            divergence(jnp.asarray(rows.wanted), found) * rows.is_chunk
        ).sum() / rows.is_chunk.sum()

    grads = jax.grad(loss)(adapter)
    updates, opt_state = optimizer.update(grads, opt_state, adapter)
    updates = jax.tree.map(lambda update: -rate * update, updates)
    return optax.apply_updates(adapter, updates), opt_state


def train(
    model: Model,
    rows: Sequence[Matched],
    config: TrainConfig,
    *,
    start_from: Adapter,
    pad_id: int,
) -> Adapter:
    """Trains one adapter from another on.

    Args:
      model: the student.
      rows: answers.
      config: the recipe; of the epochs' order only its seed.
      start_from: where to begin, scale folded in.
      pad_id: fills the batch.

    Returns:
      The adapter, on the host, scale folded in.
    """
    length, targets = (bucket(n) for n in shape_of([row.encoded for row in rows]))
    width = max(len(row.wanted) for row in rows)
    size = min(config.batch_size, len(rows))
    steps = int(config.num_epochs * -(-len(rows) // size))
    optimizer = make_optimizer(config)
    adapter = fold_scale(jax.tree.map(jnp.asarray, start_from), 1.0 / config.scale)
    opt_state = optimizer.init(adapter)
    rng = np.random.default_rng(config.seed)
    order = rng.permutation(len(rows))
    for step, rate in enumerate(learning_rates(config, steps)):
        turn = step % -(-len(rows) // size)
        if turn == 0:
            order = rng.permutation(len(rows))
        some = [rows[i] for i in order[turn * size : (turn + 1) * size]]
        adapter, opt_state = _take_step(
            model.module, optimizer, model.params, adapter, opt_state,
            _step(some, size, length, targets, width, pad_id), rate, config.scale,
        )  # fmt: skip
    return jax.tree.map(np.asarray, fold_scale(adapter, config.scale))


def _step(
    rows: Sequence[Matched], size: int, length: int, targets: int, width: int, pad_id: int
) -> _Step:
    """Returns the arrays of a step."""
    chunk = np.zeros((size, targets), np.int32)
    wanted = np.full((size, width), -1.0, np.float32)
    is_chunk = np.zeros((size, width), np.float32)
    for place, row in enumerate(rows):
        chunk[place, : len(row.chunk)] = row.chunk
        wanted[place, : len(row.wanted)] = row.wanted
        is_chunk[place, : len(row.wanted)] = 1.0
    batch = make_batch([row.encoded for row in rows], size, length, targets, pad_id)
    return _Step(batch, chunk, wanted, is_chunk)
