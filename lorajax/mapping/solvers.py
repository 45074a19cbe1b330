"""Solvers: from kernels between adapters to weights of the anchors.

A solver sees G independent problems: kernels between the source anchors, inner products of the
target anchors, and at prediction time the queries' kernel rows. What it returns are weights of
the target anchors, so that the same solver serves updates and factors, one group or one per
tensor.

Axes: G groups, A anchors, C queries, F folds.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.mapping import gram, ridge
from lorajax.mapping.float64 import on_host
from lorajax.mapping.layout import NOTHING, Leaves, indices, numbers
from lorajax.mapping.options import Options
from lorajax.rng import generator
from lorajax.types import Array, JsonDict

State = dict[str, np.ndarray]


class Problem(NamedTuple):
    """Kernels of G groups between A anchors."""

    source: Array  # float64[G, A, A]
    target: Array  # float64[G, A, A]
    cosines: Array  # float64[A, A], between whole source adapters

    @property
    def anchors(self) -> int:
        """A."""
        return self.source.shape[-1]

    def keep(self, members: Array) -> 'Problem':
        """Returns the problem of some of the anchors, int[K]."""
        pairs = members[:, None], members
        return Problem(self.source[:, *pairs], self.target[:, *pairs], self.cosines[pairs])


class Query(NamedTuple):
    """Kernels with the A anchors of one adapter, or of several along a first axis C."""

    source: Array  # float64[..., G, A]
    cosines: Array  # float64[..., A], between whole adapters


class Fit(NamedTuple):
    """What a solver found.

    state: arrays that `Solver.weights` needs. info: JSON-able facts. left_out: float64[G, A, A],
    row i predicts anchor i from the others. Penalties, scales and the like are chosen on all
    anchors, so the row has seen anchor i in that.
    """

    state: State
    info: JsonDict
    left_out: np.ndarray


class Solver(NamedTuple):
    """How weights are found.

    fit(problem, options) returns a `Fit`. weights(state, problem, queries) returns
    float64[C, G, A]. layout: of the state.
    """

    fit: Callable[[Problem, Options], Fit]
    weights: Callable[[State, Problem, Query], np.ndarray]
    layout: Leaves = NOTHING


class Folds(NamedTuple):
    """Every anchor left out once; F = A, or 0 if there is a single anchor.

    others: int[F, A - 1]. problems, queries: of the other anchors, and of the one left out,
    leaves with a first axis F.
    """

    others: np.ndarray
    problems: Problem
    queries: Query


def folds(problem: Problem) -> Folds:
    """Returns the problems that leave one anchor out, stacked."""
    anchors = problem.anchors
    count = anchors if anchors > 1 else 0
    others = np.array([np.delete(np.arange(anchors), i) for i in range(count)], np.int64)
    others = others.reshape(count, anchors - 1)
    left = np.arange(count)[:, None]
    pairs = others[:, :, None], others[:, None, :]
    return Folds(
        others,
        Problem(
            problem.source[:, *pairs].swapaxes(0, 1),
            problem.target[:, *pairs].swapaxes(0, 1),
            problem.cosines[pairs],
        ),
        Query(problem.source[:, left, others].swapaxes(0, 1), problem.cosines[left, others]),
    )


def rows_of_folds(others: Array, weights: Array) -> jax.Array:
    """Returns float64[..., G, A, A], row i holds the weights of fold i, 0 at i.

    Args:
      others: int[F, A - 1], of `Folds`.
      weights: float64[..., F, G, A - 1].
    """
    count, kept = others.shape
    rows = jnp.zeros((*weights.shape[:-3], weights.shape[-2], kept + 1, kept + 1))
    if not count:
        return rows
    left = jnp.arange(count)[:, None]
    return rows.at[..., left, others].set(jnp.moveaxis(weights, -3, -2))


def constant(total: float) -> Solver:
    """Every anchor has the weight total / A: 1 is the mean, 0 the zero adapter."""

    def fit(problem: Problem, options: Options) -> Fit:
        rows = total * ridge.mean_leave_one_out(problem.anchors)
        return Fit({}, {}, np.broadcast_to(rows, problem.source.shape))

    def weights(_: State, problem: Problem, queries: Query) -> np.ndarray:
        return np.full(queries.source.shape, total / problem.anchors)

    return Solver(fit, weights)


def nearest() -> Solver:
    """All weight on the anchor whose source adapter has the largest cosine with the query."""

    def fit(problem: Problem, options: Options) -> Fit:
        cosines = np.where(np.eye(problem.anchors, dtype=bool), -np.inf, problem.cosines)
        rows = np.eye(problem.anchors)[np.argmax(cosines, axis=1)] * (problem.anchors > 1)
        return Fit({}, {}, np.broadcast_to(rows, problem.source.shape))

    def weights(_: State, problem: Problem, queries: Query) -> np.ndarray:
        rows = np.eye(problem.anchors)[np.argmax(queries.cosines, axis=-1)]
        return np.broadcast_to(rows[:, None], queries.source.shape)

    return Solver(fit, weights)


_choose_penalty = on_host(ridge.choose_penalty, static_argnames=('may_be_mean',))
_given_penalty = on_host(ridge.given_penalty)


@on_host
def _ridge_weights(source: Array, cross: Array, penalty: Array) -> jax.Array:
    """`ridge.weights` float64[C, G, A] of queries float64[C, G, A]."""
    return ridge.weights(ridge.centre(source), cross, penalty)


def kernel_ridge(fall_back: bool) -> Solver:
    """Ridge with an intercept; see `ridge`.

    Args:
      fall_back: use the mean, and say so, if leave-one-out finds no penalty better than it.
    """

    def fit(problem: Problem, options: Options) -> Fit:
        if options.ridge_lambda is None:
            choice = _choose_penalty(problem.source, problem.target, may_be_mean=fall_back)
        else:
            choice = _given_penalty(problem.source, float(options.ridge_lambda))
        is_mean = bool(np.isinf(choice.penalty[0]))
        info: JsonDict = {
            'ridge_lambda': None if is_mean else float(np.median(choice.penalty)),
            'ridge_lambda_relative': None if is_mean else float(np.median(choice.relative)),
            'fallback': 'mean' if is_mean else None,
        }
        return Fit({'penalty': choice.penalty}, info, choice.left_out)

    def weights(state: State, problem: Problem, queries: Query) -> np.ndarray:
        return _ridge_weights(problem.source, queries.source, state['penalty'])

    return Solver(fit, weights, {'penalty': numbers('G', 'inf')})


def projection() -> Solver:
    """Least squares on the anchors, without intercept: the weights that come nearest.

    A diagnostic when the query is the true target adapter: the part of it outside the span of
    the anchors is out of reach of every weighted combination of them. Nearest is meant in the
    Frobenius norm: weights fitted to the task (`lorajax.distillation.reweight`) can do it better.
    """

    def solve(kernel: Array, cross: Array) -> np.ndarray:
        stable = gram.stabilised(np.asarray(kernel))
        return gram.solve(stable, np.asarray(cross)[..., None])[..., 0]

    def fit(problem: Problem, options: Options) -> Fit:
        others, problems, queries = folds(problem)
        rows = np.zeros(problem.source.shape)
        for i, members in enumerate(others):
            rows[:, i, members] = solve(problems.source[i], queries.source[i])
        return Fit({}, {}, rows)

    def weights(_: State, problem: Problem, queries: Query) -> np.ndarray:
        return solve(problem.source, queries.source)

    return Solver(fit, weights)


def scaled(solver: Solver, alike: bool = True) -> Solver:
    """Multiplies a solver's weights by the scale that leave-one-out finds best.

    scale = sum_i <Y_i, P_i> / sum_i |P_i|^2 over left-out predictions P_i. Averages are shorter
    than what they average; this undoes it.

    Args:
      solver: whose weights are scaled.
      alike: anchors count alike, each divided by its own squared norm, and the scale is >= 0.
        Otherwise it is the formula as it stands, negative where predictions point away.
    """

    def fit(problem: Problem, options: Options) -> Fit:
        state, info, rows = solver.fit(problem, options)
        norms = np.einsum('gii->i', problem.target)
        norms = np.where(norms > 0, norms, 1.0) if alike else 1.0
        predicted = rows @ problem.target
        overlap = np.einsum('gii->i', predicted) / norms
        length = np.einsum('gij,gij->i', predicted, rows) / norms
        scale = overlap.sum() / length.sum() if length.sum() > 0 else 1.0
        scale = max(0.0, scale) if alike else scale
        return Fit(
            {**state, 'scale': np.array(scale)}, {**info, 'scale': float(scale)}, scale * rows
        )

    def weights(state: State, problem: Problem, queries: Query) -> np.ndarray:
        return state['scale'] * solver.weights(state, problem, queries)

    return Solver(fit, weights, {**solver.layout, 'scale': numbers()})


def misassigned(solver: Solver) -> Solver:
    """A placebo: a solver's weights, given to the wrong anchors.

    The tasks are permuted in one random cycle, so no anchor keeps its own weight. What this
    scores, a method reaches without any use of which source adapter belongs to which task.
    """

    def fit(problem: Problem, options: Options) -> Fit:
        state, info, rows = solver.fit(problem, options)
        order = generator(options.seed, 'placebo').permutation(problem.anchors)
        receives = np.empty_like(order)
        receives[order] = np.roll(order, 1)
        rows = rows[..., receives]
        own = np.einsum('gii->gi', rows)  # an anchor must not predict itself: share it out
        means, identity = ridge.mean_leave_one_out(problem.anchors), np.eye(problem.anchors)
        rows = rows + own[..., None] * (means - identity)
        return Fit({**state, 'receives': receives}, info, rows)

    def weights(state: State, problem: Problem, queries: Query) -> np.ndarray:
        return solver.weights(state, problem, queries)[..., state['receives']]

    return Solver(fit, weights, {**solver.layout, 'receives': indices('A', below='A')})
