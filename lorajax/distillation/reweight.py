"""Weights of the anchors: a target adapter fitted to answers, between a start and the anchors.

The adapter is a start plus a weighted sum of the anchors' updates, one weight for each anchor,
projection and layer. The weights begin at zero, and leaving the start is penalised by the size of
the change, measured in updates and not in weights: answers that tell nothing leave the start as it
is. With the answers of a teacher to prompts, and a translation as the start, this needs no labels
(`ladder`). With a few labelled examples and no start it is few-shot learning.

Source: LoraHub (Huang et al. 2023, arXiv 2307.13269), there one weight per adapter, from labels,
found without gradients and from nothing on.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lorajax.errors import InputError
from lorajax.lora import pad_rank, stack
from lorajax.mapping import Anchors
from lorajax.mapping.subspace import with_rank
from lorajax.models import Model
from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.progress import Progress
from lorajax.tasks.batching import Batch, bucket, make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.types import Adapter, Params

Weights = dict[str, jax.Array]  # projection -> float32[L, A]


@dataclasses.dataclass(frozen=True)
class ReweightConfig:
    """How weights are fitted.

    Attributes:
      steps: of Adam, each on all examples.
      learning_rate: of Adam, on weights.
      penalty: nats per token that a change as long as a mean anchor costs; it grows with the
        square of the length. Chosen on left-out anchors of the demo's world (docs/results.md).
      widening: rank of the result over the anchors', where the start is not wider. A sum of
        anchors that do not share their `a` does not fit into the rank of one (docs/results.md).
    """

    steps: int = 60
    learning_rate: float = 0.05
    penalty: float = 0.1
    widening: int = 2


DEFAULTS = ReweightConfig()


def combine(anchors: Adapter, weights: Weights, start: Adapter | None = None) -> Adapter:
    """Returns a start plus the weighted sum of updates, exactly, as one adapter.

    Args:
      anchors: stacked on a leading axis A, of rank R.
      weights: float32[L, A] for each projection.
      start: of any rank S; 0 if None.

    Returns:
      An adapter of rank S + A R.
    """
    layers = {}
    for name, entry in anchors['layers'].items():
        weighted = entry['b'] * weights[name].T[:, :, None, None]  # A L R out
        first = start['layers'][name] if start else {'a': entry['a'][0, :, :, :0],
                                                     'b': entry['b'][0, :, :0]}  # fmt: skip
        layers[name] = {
            'a': jnp.concatenate([first['a'], *entry['a']], axis=-1),
            'b': jnp.concatenate([first['b'], *weighted], axis=-2),
        }
    return {'layers': layers}


ADAM = optax.scale_by_adam()


class State(NamedTuple):
    """What a step changes; leaves have a leading axis C, the adapters that are fitted."""

    weights: Weights
    opt_state: optax.OptState


class Problem(NamedTuple):
    """What the adapters that are fitted differ in; leaves have a leading axis C."""

    start: Adapter | None
    first: Weights  # where the weights begin, and what is penalised to leave
    batch: Batch  # the mask holds the weight of each answer
    share: jax.Array  # float32[C], what makes a mean over tokens of the batch's sum


@functools.partial(jax.jit, static_argnames=('module',), donate_argnames='state')
def take_step(
    module: Transformer,
    params: Params,
    anchors: Adapter,
    grams: Weights,
    state: State,
    problem: Problem,
    rate: float,
    penalty: float,
) -> tuple[State, jax.Array]:
    """Returns the state after one step of Adam, and float32[C], the loss before it."""

    def one(state: State, problem: Problem) -> tuple[State, jax.Array]:
        def loss(weights: Weights) -> jax.Array:
            adapter = combine(anchors, weights, problem.start)
            nll = target_nll(module, params, adapter, *problem.batch).sum() * problem.share
            moved = jax.tree.map(jnp.subtract, weights, problem.first)
            size = sum(jnp.einsum('la,lab,lb->', moved[n], grams[n], moved[n]) for n in moved)
            return nll + penalty * size

        value, grads = jax.value_and_grad(loss)(state.weights)
        updates, opt_state = ADAM.update(grads, state.opt_state)
        updates = jax.tree.map(lambda update: -rate * update, updates)
        return State(optax.apply_updates(state.weights, updates), opt_state), value

    return jax.vmap(one)(state, problem)


def reweight(
    model: Model,
    anchors: Mapping[str, Adapter],
    examples: Mapping[str, Sequence[Encoded]],
    *,
    pad_id: int,
    start_from: Mapping[str, Adapter] | None = None,
    trust: Mapping[str, np.ndarray] | None = None,
    config: ReweightConfig = DEFAULTS,
    adapters_per_step: int = 0,
) -> dict[str, Adapter]:
    """Fits weights of the anchors to each task's examples, many tasks in one compiled step.

    Args:
      model: the target.
      anchors: adapters of it with the same projections, A of them, R the highest rank.
      examples: by task, a few of each.
      pad_id: fills the batch.
      start_from: adapters of the target by task, with the anchors' projections; by default the
        mean of the anchors.
      trust: float[examples] in [0, 1] by task, how much each example counts; 1 by default.
        Examples of less trust than 1 leave more of the start.
      config: steps, rate and penalty.
      adapters_per_step: tasks fitted together; 0 for all.

    Returns:
      Adapters of the start's rank (0 without) plus A R by task, on the host; see `truncate`.

    Raises:
      InputError: if a loss is not finite.
    """
    rank = max(np.shape(e['a'])[-1] for a in anchors.values() for e in a['layers'].values())
    ordered = Anchors(anchors, 'target')
    stacked = jax.tree.map(
        jnp.asarray, stack([pad_rank(anchors[task], rank) for task in ordered.tasks])
    )
    grams = _grams(ordered)
    rows = _power_of_two(max(len(few) for few in examples.values()))
    length, targets = (bucket(n) for n in shape_of([e for few in examples.values() for e in few]))
    tasks, fitted = list(examples), {}
    size = adapters_per_step or len(tasks)
    for group in (tasks[i : i + size] for i in range(0, len(tasks), size)):
        parts = [
            _weighted(
                make_batch(examples[t], rows, length, targets, pad_id), trust[t] if trust else None
            )
            for t in group
        ]
        batch = Batch(*(np.stack(arrays) for arrays in zip(*[b for b, _ in parts], strict=True)))
        first = {
            name: jnp.full((len(group), *gram.shape[:2]), 0.0 if start_from else 1.0 / len(ordered))
            for name, gram in grams.items()
        }
        start = stack([start_from[task] for task in group]) if start_from else None
        problem = Problem(start, first, batch, jnp.array([s for _, s in parts], jnp.float32))
        weights = _fit(model, stacked, grams, problem, config, group)
        for index, task in enumerate(group):
            mine = {name: w[index] for name, w in weights.items()}
            start = start_from[task] if start_from else None
            fitted[task] = jax.tree.map(np.asarray, combine(stacked, mine, start))
    return fitted


def _fit(
    model: Model,
    anchors: Adapter,
    grams: Weights,
    problem: Problem,
    config: ReweightConfig,
    tasks: Sequence[str],
) -> Weights:
    """Returns the weights float32[C, L, A] after all steps."""
    problem = jax.tree.map(jnp.asarray, problem)
    weights = jax.tree.map(jnp.copy, problem.first)  # the state is donated
    state = State(weights, jax.vmap(ADAM.init)(weights))
    losses = []
    with Progress('reweight', config.steps) as progress:
        for _ in range(config.steps):
            state, loss = take_step(
                model.module, model.params, anchors, grams, state, problem,
                config.learning_rate, config.penalty,
            )  # fmt: skip
            losses.append(loss)
            progress.update()
    for task, values in zip(tasks, np.asarray(losses).T, strict=True):
        if not np.isfinite(values).all():
            raise InputError(f'{task}: a loss of the reweighting is not finite')
    return state.weights


def _weighted(batch: Batch, trust: np.ndarray | None) -> tuple[Batch, float]:
    """Returns a batch whose mask holds the trust of each row, and 1 / its number of tokens."""
    tokens = max(float(batch.target_mask.sum()), 1.0)
    if trust is not None:
        rows = np.zeros(len(batch.target_mask), np.float32)
        rows[: len(trust)] = trust
        batch = batch._replace(target_mask=batch.target_mask * rows[:, None])
    return batch, 1.0 / tokens


def _grams(anchors: Anchors) -> Weights:
    """Returns float32[L, A, A] for each projection: inner products of the anchors' updates.

    In units of the mean squared norm of an anchor, all its tensors together.
    """
    grams = anchors.delta_gram
    unit = np.trace(grams.sum(0)) / len(anchors) or 1.0
    by_projection: dict[str, list[np.ndarray]] = {}
    for (projection, _), gram in zip(anchors.tensors, grams, strict=True):
        by_projection.setdefault(projection, []).append(gram / unit)
    return {name: jnp.asarray(np.stack(g), jnp.float32) for name, g in by_projection.items()}


def _power_of_two(count: int) -> int:
    """Returns the least power of two that is not below; a fit of a few rows less compiles once."""
    return 1 << (count - 1).bit_length()


def truncate(adapter: Adapter, rank: int) -> Adapter:
    """Returns the nearest adapter of a rank, by the norm of the update of each tensor."""
    layers = {}
    for name, entry in adapter['layers'].items():
        kept = with_rank(np.asarray(entry['a']), np.asarray(entry['b']), rank)
        layers[name] = {'a': kept.a, 'b': kept.b}
    return {'layers': layers}
