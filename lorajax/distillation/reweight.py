"""Anchors put together anew: a target adapter fitted to answers, between a start and the anchors.

The adapter is a start plus, in each projection and layer, a small matrix between the directions
that the anchors' updates have most of: the leading ones of their inputs and of their outputs, which
stay, and a core of all products of the two, which is fitted. The core begins at zero. Its entries
are in units of what the anchors have there, so what they share moves first; and leaving the start
is penalised by the size of the change, measured in updates: answers that tell nothing leave the
start as it is. With the answers of a teacher to prompts, and a translation as the start, this needs
no labels (`ladder`). With a few labelled examples and no start it is few-shot learning.

Sources: LoraHub (Huang et al. 2023, arXiv 2307.13269) weighs whole adapters, by labels; LoRA-XS
(Balazy et al. 2024, arXiv 2405.17604) trains a core between directions of the base's weights.
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
from lorajax.mapping.subspace import reduce_basis, with_rank
from lorajax.models import Model
from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.progress import Progress
from lorajax.tasks.batching import Batch, bucket, make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.types import Adapter, Array, Params

Cores = dict[str, Any]  # projection -> float32[L, M, N]


@dataclasses.dataclass(frozen=True)
class ReweightConfig:
    """How cores are fitted; all was chosen on left-out anchors (docs/results.md).

    Attributes:
      steps: evaluations of the loss on all examples, in a descent by L-BFGS.
      more_steps: of a fit that goes on, with examples that were kept out of it before.
      first_step: length of the first step, as part of a mean anchor's length.
      penalty: nats per token that a change as long as a mean anchor costs; it grows with the
        square of the length.
      directions: of a projection's inputs and of its outputs that are kept, at most.
      widening: rank of the result over the anchors', where the start is not wider. A sum of
        anchors that do not share their `a` does not fit into the rank of one.
    """

    steps: int = 24
    more_steps: int = 10
    first_step: float = 0.064
    penalty: float = 0.01
    directions: int = 16
    widening: int = 2


DEFAULTS = ReweightConfig()
# Of a step whose activations are all kept, whatever the model does elsewhere: 8 answers of 256.
_KEPT_TOKENS = 2048


class Directions(NamedTuple):
    """Where the anchors' updates lie.

    Attributes:
      factors: an adapter of rank P whose `a` [L, in, P] and `b` [L, P, out] are orthogonal, `b` as
        long as a mean anchor.
      spread: float32[L, P, P] by projection, root of the anchors' mean square at each product of
        two directions if the two were independent.
    """

    factors: Adapter
    spread: Cores


def combine(directions: Directions, cores: Cores, start: Adapter | None = None) -> Adapter:
    """Returns a start plus the cores between directions, as one adapter.

    Args:
      directions: of rank P.
      cores: float32[L, P, P] for each projection.
      start: of any rank S; 0 if None.

    Returns:
      An adapter of rank S + P.
    """
    layers = {}
    for name, entry in directions.factors['layers'].items():
        a, b = entry['a'], (directions.spread[name] * cores[name]) @ entry['b']
        if start:
            first = start['layers'][name]
            a = jnp.concatenate([first['a'], a], axis=-1)
            b = jnp.concatenate([first['b'], b], axis=-2)
        layers[name] = {'a': a, 'b': b}
    return {'layers': layers}


class Problem(NamedTuple):
    """What the adapters that are fitted differ in; leaves have a leading axis C."""

    start: Adapter
    batch: Batch  # the mask holds the weight of each answer
    share: jax.Array  # float32[C], what makes a mean over tokens of the batch's sum


@functools.partial(jax.jit, static_argnames=('module',))
def evaluate(
    module: Transformer,
    params: Params,
    directions: Directions,
    cores: Cores,
    problem: Problem,
    penalty: float,
) -> tuple[jax.Array, Cores]:
    """Returns float32[C], the losses of C adapters, and their gradients by the cores."""

    def loss(cores: Cores, problem: Problem) -> jax.Array:
        adapter = combine(directions, cores, problem.start)
        nll = target_nll(module, params, adapter, *problem.batch).sum() * problem.share
        moved = jax.tree.map(jnp.multiply, directions.spread, cores)
        return nll + penalty * sum(jnp.square(core).sum() for core in moved.values())

    return jax.vmap(jax.value_and_grad(loss))(cores, problem)


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
    """Fits cores to each task's examples; see `Reweighting`.

    Returns:
      Adapters by task, on the host, of the start's rank (without, the anchors' together) plus that
      of the directions; see `truncate`.
    """
    fits = Reweighting(
        model, anchors, pad_id=pad_id, start_from=start_from, config=config,
        adapters_per_step=adapters_per_step,
    )  # fmt: skip
    return fits.go_on(examples, trust, config.steps + config.more_steps)


class Reweighting:
    """Cores that are being fitted, many tasks in one compiled step.

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
        """Begins at the starts.

        Args:
          model: the target.
          anchors: adapters of it with the same projections.
          pad_id: fills the batch.
          start_from: adapters of the target by task, with the anchors' projections; by default the
            mean of the anchors.
          config: steps, rate and penalty.
          adapters_per_step: tasks fitted together; 0 for all.
        """
        self._model, self._pad_id, self._config = model, pad_id, config
        self._directions = jax.tree.map(
            jnp.asarray, directions_of(Anchors(anchors, 'target'), config.directions)
        )
        self._start = start_from
        self._mean = {} if start_from else _mean(anchors)
        self._together = adapters_per_step
        self._cores: dict[str, Cores] = {}

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
          Adapters by task, on the host; see `reweight`.

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
            problem = Problem(
                stack([self._begin(task) for task in group]),
                batch,
                jnp.array([share for _, share in parts], jnp.float32),
            )
            self._descend(problem, group, steps)
            for task in group:
                combined = combine(self._directions, self._cores[task], self._begin(task))
                fitted[task] = jax.tree.map(np.asarray, combined)
        return fitted

    def _begin(self, task: str) -> Adapter:
        """Returns where a task begins."""
        return self._start[task] if self._start else self._mean

    def _descend(self, problem: Problem, tasks: Sequence[str], steps: int) -> None:
        """Moves the cores of tasks, all by as many evaluations."""
        spread = {name: np.asarray(s, np.float64) for name, s in self._directions.spread.items()}
        nothing = {name: np.zeros(s.shape, np.float32) for name, s in spread.items()}
        points = [_flat(self._cores.get(task, nothing)) for task in tasks]
        descents: list[Lbfgs] = []
        problem = jax.tree.map(jnp.asarray, problem)
        module = keeps_activations(self._model.module, problem.batch.tokens.size)
        with Progress('reweight', steps) as progress:
            for step in range(steps):
                losses, by_core = evaluate(
                    module, self._model.params, self._directions,
                    stack([_unflat(point, nothing) for point in points]), problem,
                    self._config.penalty,
                )  # fmt: skip
                by_core = jax.tree.map(np.asarray, by_core)
                for i, loss in enumerate(np.asarray(losses)):
                    slope = _flat({name: gradient[i] for name, gradient in by_core.items()})
                    if step == 0:
                        if not np.isfinite(loss):
                            raise InputError(f'{tasks[i]}: the loss of the start is not finite')
                        length = self._config.first_step * _per_length(slope, spread)
                        descents.append(Lbfgs(points[i], length=length))
                    descents[i].tell(float(loss), slope)
                points = [descent.point for descent in descents]
                progress.update()
        for task, descent in zip(tasks, descents, strict=True):
            self._cores[task] = _unflat(descent.best, nothing)


def _per_length(slope: np.ndarray, spread: Cores) -> float:
    """Returns the length of a step of cores along a slope over that of the update it makes."""
    made = slope * _flat(spread)
    return float(np.linalg.norm(slope) / max(np.linalg.norm(made), np.finfo(float).tiny))


def _flat(cores: Cores) -> np.ndarray:
    """Returns cores as one float64 vector."""
    return np.concatenate([np.ravel(cores[name]) for name in sorted(cores)]).astype(np.float64)


def _unflat(vector: np.ndarray, like: Cores) -> Cores:
    """Returns a vector as float32 cores of the shapes of others."""
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


def _mean(anchors: Mapping[str, Adapter]) -> Adapter:
    """Returns the mean of adapters' updates, exactly."""
    rank = max(np.shape(e['a'])[-1] for a in anchors.values() for e in a['layers'].values())
    together = stack([pad_rank(anchor, rank) for anchor in anchors.values()])
    return {
        'layers': {
            name: {
                'a': np.concatenate(list(entry['a']), axis=-1),
                'b': np.concatenate(list(entry['b']), axis=-2) / len(anchors),
            }
            for name, entry in together['layers'].items()
        }
    }


def directions_of(anchors: Anchors, most: int) -> Directions:
    """Finds the directions that anchors have most of.

    Args:
      anchors: of the target.
      most: directions of inputs, and of outputs.

    Those of inputs and of outputs are found alone (De Lathauwer et al. 2000), and so is how much of
    the anchors' squared norm lies along each. Along products of two it is taken to be the product.
    """
    reduced = [reduce_basis(basis, most)[0] for basis in anchors.frame.bases]
    updates = [basis.a @ basis.b for basis in reduced]
    unit = sum(float(np.square(update).sum()) for update in updates) / len(anchors) or 1.0
    found: dict[str, list[tuple[Array, ...]]] = {}
    for (projection, _), basis, update in zip(anchors.tensors, reduced, updates, strict=True):
        squares = np.square(update).mean(axis=0) / unit  # M N
        total = squares.sum() or 1.0
        spread = np.sqrt(np.outer(squares.sum(1), squares.sum(0)) / total)
        found.setdefault(projection, []).append((basis.q_in, basis.q_out.T, spread))
    factors, spreads = {}, {}
    for projection, parts in found.items():
        a, b, spread = (np.stack(part).astype(np.float32) for part in zip(*parts, strict=True))
        factors[projection] = {'a': a, 'b': b * np.float32(math.sqrt(unit))}
        spreads[projection] = spread
    return Directions({'layers': factors}, spreads)


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
