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
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.distillation.lbfgs import Lbfgs
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

Weights = dict[str, Any]  # projection -> float32[L, A]


@dataclasses.dataclass(frozen=True)
class ReweightConfig:
    """How weights are fitted; all was chosen on left-out anchors (docs/results.md).

    Attributes:
      steps: evaluations of the loss on all examples, in a descent by L-BFGS.
      more_steps: of a fit that goes on, with examples that were kept out of it before.
      first_step: length of the first step, root of the mean square over the weights.
      penalty: nats per token that a change as long as a mean anchor costs; it grows with the
        square of the length.
      widening: rank of the result over the anchors', where the start is not wider. A sum of
        anchors that do not share their `a` does not fit into the rank of one.
    """

    steps: int = 14
    more_steps: int = 6
    first_step: float = 0.016
    penalty: float = 0.1
    widening: int = 2


DEFAULTS = ReweightConfig()
# Of a step whose activations are all kept, whatever the model does elsewhere: 8 answers of 256.
_KEPT_TOKENS = 2048


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


class Problem(NamedTuple):
    """What the adapters that are fitted differ in; leaves have a leading axis C."""

    start: Adapter | None
    first: Weights  # where the weights begin, and what is penalised to leave
    batch: Batch  # the mask holds the weight of each answer
    share: jax.Array  # float32[C], what makes a mean over tokens of the batch's sum


@functools.partial(jax.jit, static_argnames=('module',))
def evaluate(
    module: Transformer,
    params: Params,
    anchors: Adapter,
    grams: Weights,
    weights: Weights,
    problem: Problem,
    penalty: float,
) -> tuple[jax.Array, Weights]:
    """Returns float32[C], the losses of C adapters, and their gradients by the weights."""

    def loss(weights: Weights, problem: Problem) -> jax.Array:
        adapter = combine(anchors, weights, problem.start)
        nll = target_nll(module, params, adapter, *problem.batch).sum() * problem.share
        moved = jax.tree.map(jnp.subtract, weights, problem.first)
        size = sum(jnp.einsum('la,lab,lb->', moved[n], grams[n], moved[n]) for n in moved)
        return nll + penalty * size

    return jax.vmap(jax.value_and_grad(loss))(weights, problem)


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
    """Fits weights of the anchors to each task's examples; see `Reweighting`.

    Returns:
      Adapters of the start's rank (0 without) plus A R by task, on the host; see `truncate`.
    """
    fits = Reweighting(
        model, anchors, pad_id=pad_id, start_from=start_from, config=config,
        adapters_per_step=adapters_per_step,
    )  # fmt: skip
    return fits.go_on(examples, trust, config.steps + config.more_steps)


class Reweighting:
    """Weights of the anchors that are being fitted, many tasks in one compiled step.

    A fit may go on with more examples than it began with, as where some were kept out to see
    what it is worth.
    """

    def __init__(
        self,
        model: Model,
        anchors: Mapping[str, Adapter],
        *,
        pad_id: int,
        start_from: Mapping[str, Adapter] | None = None,
        config: ReweightConfig = DEFAULTS,
        adapters_per_step: int = 0,
    ) -> None:
        """Begins with no weight for any anchor.

        Args:
          model: the target.
          anchors: adapters of it with the same projections, A of them, R the highest rank.
          pad_id: fills the batch.
          start_from: adapters of the target by task, with the anchors' projections; by default the
            mean of the anchors.
          config: steps, rate and penalty.
          adapters_per_step: tasks fitted together; 0 for all.
        """
        rank = max(np.shape(e['a'])[-1] for a in anchors.values() for e in a['layers'].values())
        ordered = Anchors(anchors, 'target')
        self._model, self._pad_id, self._config = model, pad_id, config
        self._anchors = jax.tree.map(
            jnp.asarray, stack([pad_rank(anchors[task], rank) for task in ordered.tasks])
        )
        self._grams = _grams(ordered)
        self._start = start_from
        self._together = adapters_per_step
        self._weights: dict[str, Weights] = {}

    def go_on(
        self,
        examples: Mapping[str, Sequence[Encoded]],
        trust: Mapping[str, np.ndarray] | None,
        steps: int,
    ) -> dict[str, Adapter]:
        """Goes down from where each task stands, on its examples.

        Args:
          examples: by task, a few of each.
          trust: float[examples] in [0, 1] by task, how much each example counts; None for 1.
            Examples of less trust than 1 leave more of the start.
          steps: evaluations of the loss.

        Returns:
          Adapters of the start's rank (0 without) plus A R by task, on the host.

        Raises:
          InputError: if a loss is not finite.
        """
        rows = _power_of_two(max(len(few) for few in examples.values()))
        length, targets = (bucket(n) for n in shape_of([e for f in examples.values() for e in f]))
        tasks, fitted = list(examples), {}
        size = self._together or len(tasks)
        for group in (tasks[i : i + size] for i in range(0, len(tasks), size)):
            parts = [
                _weighted(
                    make_batch(examples[t], rows, length, targets, self._pad_id),
                    trust[t] if trust else None,
                )
                for t in group
            ]
            batch = Batch(*(np.stack(x) for x in zip(*[b for b, _ in parts], strict=True)))
            starts = [self._start[task] for task in group] if self._start else None
            problem = Problem(
                stack(starts) if starts else None,
                stack([self._first()] * len(group)),
                batch,
                jnp.array([share for _, share in parts], jnp.float32),
            )
            self._descend(problem, group, steps)
            for task in group:
                start = self._start[task] if self._start else None
                combined = combine(self._anchors, self._weights[task], start)
                fitted[task] = jax.tree.map(np.asarray, combined)
        return fitted

    def _first(self) -> Weights:
        """Returns the weights of one task before the first step."""
        return {
            name: np.full(gram.shape[:2], 0.0 if self._start else 1.0 / gram.shape[1], np.float32)
            for name, gram in self._grams.items()
        }

    def _descend(self, problem: Problem, tasks: Sequence[str], steps: int) -> None:
        """Moves the weights of tasks, all by as many evaluations."""
        first = self._first()
        length = self._config.first_step * math.sqrt(sum(w.size for w in first.values()))
        descents = [Lbfgs(_flat(self._weights.get(task, first)), length=length) for task in tasks]
        problem = jax.tree.map(jnp.asarray, problem)
        module = keeps_activations(self._model.module, problem.batch.tokens.size)
        with Progress('reweight', steps) as progress:
            for step in range(steps):
                weights = stack([_unflat(descent.point, first) for descent in descents])
                losses, gradients = evaluate(
                    module, self._model.params, self._anchors, self._grams, weights, problem,
                    self._config.penalty,
                )  # fmt: skip
                gradients = jax.tree.map(np.asarray, gradients)
                for i, (descent, loss) in enumerate(zip(descents, np.asarray(losses), strict=True)):
                    if step == 0 and not np.isfinite(loss):
                        raise InputError(f'{tasks[i]}: the loss of the start is not finite')
                    descent.tell(float(loss), _flat({n: g[i] for n, g in gradients.items()}))
                progress.update()
        for task, descent in zip(tasks, descents, strict=True):
            self._weights[task] = _unflat(descent.best, first)


def _flat(weights: Weights) -> np.ndarray:
    """Returns weights as one float64 vector."""
    return np.concatenate([np.ravel(weights[name]) for name in sorted(weights)]).astype(np.float64)


def _unflat(vector: np.ndarray, like: Weights) -> Weights:
    """Returns a vector as float32 weights of the shapes of others."""
    names = sorted(like)
    ends = np.cumsum([like[name].size for name in names])[:-1]
    return {
        name: part.reshape(like[name].shape).astype(np.float32)
        for name, part in zip(names, np.split(vector, ends), strict=True)
    }


def keeps_activations(module: Transformer, tokens: int) -> Transformer:
    """Returns the decoder for a step of so many tokens: with few nothing is computed twice."""
    return module.clone(remat='none') if tokens <= _KEPT_TOKENS else module


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
