"""Rules that give the anchors weights, from kernels between adapters alone.

A rule sees G independent problems: kernels between the source anchors, inner products of the
target anchors, and at prediction time the query's kernel rows. What it returns are weights of
the target anchors, so that the same rule serves updates and factors, one group or one per tensor.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from lorajax.mapping import ridge
from lorajax.mapping.options import Options
from lorajax.rng import generator
from lorajax.types import JsonDict

State = dict[str, np.ndarray]


class Problem(NamedTuple):
    """Kernels of G groups between A anchors."""

    source: np.ndarray  # float64[G, A, A]
    target: np.ndarray  # float64[G, A, A]
    cosines: np.ndarray  # float64[A, A], between whole source adapters

    @property
    def anchors(self) -> int:
        """A."""
        return self.source.shape[-1]

    def keep(self, members: np.ndarray) -> 'Problem':
        """Returns the problem of some of the anchors, int[K]."""
        pairs = np.ix_(members, members)
        return Problem(
            self.source[:, pairs[0], pairs[1]],
            self.target[:, pairs[0], pairs[1]],
            self.cosines[pairs],
        )


class Query(NamedTuple):
    """Kernels of one adapter with the A anchors."""

    source: np.ndarray  # float64[G, A]
    cosines: np.ndarray  # float64[A], between whole adapters


class Rule(NamedTuple):
    """How weights are found.

    fit(problem, options) returns arrays to keep and facts to report. weights(state, problem,
    query) returns float64[G, A]. left_out(state, problem) returns float64[G, A, A]: row i
    predicts anchor i without having seen it.
    """

    fit: Callable[[Problem, Options], tuple[State, JsonDict]]
    weights: Callable[[State, Problem, Query], np.ndarray]
    left_out: Callable[[State, Problem], np.ndarray]


def folds(problem: Problem) -> Iterator[tuple[np.ndarray, Problem, Query]]:
    """Yields, for each anchor, the other anchors int[A - 1], their problem, and its query.

    Yields nothing if there is only one anchor.
    """
    for i in range(problem.anchors if problem.anchors > 1 else 0):
        others = np.delete(np.arange(problem.anchors), i)
        query = Query(problem.source[:, i, others], problem.cosines[i, others])
        yield others, problem.keep(others), query


def refit(weights: Callable[[Problem, Query], np.ndarray], problem: Problem) -> np.ndarray:
    """Returns float64[G, A, A], leave-one-out weights by solving every fold anew."""
    rows = np.zeros(problem.source.shape)
    for i, (others, rest, query) in enumerate(folds(problem)):
        rows[:, i, others] = weights(rest, query)
    return rows


def constant(total: float) -> Rule:
    """Every anchor has the weight total / A: 1 is the mean, 0 the zero adapter."""

    def weights(_: State, problem: Problem, query: Query) -> np.ndarray:
        return np.full(query.source.shape, total / problem.anchors)

    def left_out(_: State, problem: Problem) -> np.ndarray:
        rows = total * ridge.mean_leave_one_out(problem.anchors)
        return np.broadcast_to(rows, problem.source.shape)

    return Rule(lambda problem, options: ({}, {}), weights, left_out)


def nearest() -> Rule:
    """All weight on the anchor whose source adapter has the largest cosine with the query."""

    def weights(_: State, problem: Problem, query: Query) -> np.ndarray:
        row = np.eye(problem.anchors)[np.argmax(query.cosines)]
        return np.broadcast_to(row, query.source.shape)

    def left_out(state: State, problem: Problem) -> np.ndarray:
        return refit(lambda rest, query: weights(state, rest, query), problem)

    return Rule(lambda problem, options: ({}, {}), weights, left_out)


def kernel_ridge(fall_back: bool) -> Rule:
    """Ridge with an intercept; see `ridge`.

    Args:
      fall_back: use the mean, and say so, if leave-one-out finds no penalty better than it.
    """

    def fit(problem: Problem, options: Options) -> tuple[State, JsonDict]:
        kernel = ridge.centre(problem.source)
        if options.ridge_lambda is not None:
            penalty = np.full(len(problem.source), float(options.ridge_lambda))
        else:
            penalty = ridge.choose_penalty(problem.source, problem.target)
            if not fall_back:
                largest = ridge.RELATIVE_GRID[-2] * kernel.mean_diagonal
                penalty = np.minimum(penalty, largest)
        if np.isinf(penalty[0]):
            return {'penalty': penalty}, {'ridge_lambda': None, 'fallback': 'mean'}
        relative = penalty / kernel.mean_diagonal
        return {'penalty': penalty}, {
            'ridge_lambda': float(np.median(penalty)),
            'ridge_lambda_relative': float(np.median(relative)),
            'fallback': None,
        }

    def weights(state: State, problem: Problem, query: Query) -> np.ndarray:
        return ridge.weights(ridge.centre(problem.source), query.source, state['penalty'])

    def left_out(state: State, problem: Problem) -> np.ndarray:
        return ridge.leave_one_out(ridge.centre(problem.source), state['penalty'])

    return Rule(fit, weights, left_out)


def projection() -> Rule:
    """Least squares on the anchors, without intercept: the weights that come nearest.

    A diagnostic when the query is the true target adapter: the part of it outside the span of
    the anchors is out of reach of every weighted combination of them. Nearest is meant in the
    Frobenius norm: weights fitted to the task (`lorajax.distillation.reweight`) can do it better.
    """

    def weights(_: State, problem: Problem, query: Query) -> np.ndarray:
        stabilised = ridge.stabilised(problem.source)
        return np.linalg.solve(stabilised, query.source[..., None])[..., 0]

    def left_out(state: State, problem: Problem) -> np.ndarray:
        return refit(lambda rest, query: weights(state, rest, query), problem)

    return Rule(lambda problem, options: ({}, {}), weights, left_out)


def scaled(rule: Rule) -> Rule:
    """Multiplies a rule's weights by the scale that leave-one-out finds best, >= 0.

    scale = sum_i <Y_i, P_i> / sum_i |P_i|^2 over left-out predictions P_i, each anchor divided
    by its own squared norm. Averages are shorter than what they average; this undoes it.
    """

    def fit(problem: Problem, options: Options) -> tuple[State, JsonDict]:
        state, info = rule.fit(problem, options)
        rows = rule.left_out(state, problem)
        norms = ridge.anchor_norms(problem.target)
        predicted = rows @ problem.target
        overlap = np.einsum('gii->i', predicted) / norms
        length = np.einsum('gij,gij->i', predicted, rows) / norms
        scale = max(0.0, overlap.sum() / length.sum()) if length.sum() > 0 else 1.0
        return {**state, 'scale': np.array(scale)}, {**info, 'scale': float(scale)}

    def weights(state: State, problem: Problem, query: Query) -> np.ndarray:
        return state['scale'] * rule.weights(state, problem, query)

    def left_out(state: State, problem: Problem) -> np.ndarray:
        return state['scale'] * rule.left_out(state, problem)

    return Rule(fit, weights, left_out)


def misassigned(rule: Rule) -> Rule:
    """A placebo: a rule's weights, given to the wrong anchors.

    The tasks are permuted in one random cycle, so no anchor keeps its own weight. What this
    scores, a method reaches without any use of which source adapter belongs to which task.
    """

    def fit(problem: Problem, options: Options) -> tuple[State, JsonDict]:
        state, info = rule.fit(problem, options)
        order = generator(options.seed, 'placebo').permutation(problem.anchors)
        receives = np.empty_like(order)
        receives[order] = np.roll(order, 1)
        return {**state, 'receives': receives}, info

    def weights(state: State, problem: Problem, query: Query) -> np.ndarray:
        return rule.weights(state, problem, query)[..., state['receives']]

    def left_out(state: State, problem: Problem) -> np.ndarray:
        rows = rule.left_out(state, problem)[..., state['receives']]
        own = np.einsum('gii->gi', rows)  # an anchor must not predict itself: share it out
        return rows + own[..., None] * (
            ridge.mean_leave_one_out(rows.shape[-1]) - np.eye(rows.shape[-1])
        )

    return Rule(fit, weights, left_out)
