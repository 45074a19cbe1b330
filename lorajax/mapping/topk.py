"""Ridge on the K anchors nearest to the query.

The anchors are ranked once, by the cosine between whole source adapters, also for methods that
solve one problem per tensor: so the seed's selection log reads.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.mapping import ridge
from lorajax.mapping.float64 import on_host
from lorajax.mapping.layout import indices, numbers
from lorajax.mapping.options import Options
from lorajax.mapping.solvers import (
    Fit,
    Folds,
    Problem,
    Query,
    Solver,
    State,
    folds,
    rows_of_folds,
)
from lorajax.types import Array


def nearest_anchors(cosines: Array, count: int) -> jax.Array:
    """Returns int[min(count, A)], the anchors of largest cosine, nearest first."""
    return jnp.argsort(-cosines, stable=True)[:count]


def nearest_ridge(
    problem: Problem, query: Query, count: int, ridge_lambda: float | None
) -> jax.Array:
    """Returns weights float64[G, A] of one query, 0 for all but the nearest anchors.

    Args:
      problem: of all anchors.
      query: without an axis C.
      count: K, at most A.
      ridge_lambda: None for leave-one-out among the K anchors.
    """
    members = nearest_anchors(query.cosines, count)
    near = problem.keep(members)
    if ridge_lambda is None:
        penalty = ridge.choose_penalty(near.source, near.target, may_be_mean=False).penalty
    else:
        penalty = jnp.full(len(near.source), ridge_lambda)
    weights = ridge.weights(ridge.centre(near.source), query.source[:, members], penalty)
    return jnp.zeros(query.source.shape).at[:, members].set(weights)


_STATIC = ('count', 'ridge_lambda')


@on_host(static_argnames=_STATIC)
def _weights(problem: Problem, queries: Query, count: int, ridge_lambda: float | None) -> jax.Array:
    """`nearest_ridge` of each query, one after the other: their grids fill memory together."""
    return jax.lax.map(lambda query: nearest_ridge(problem, query, count, ridge_lambda), queries)


@on_host(static_argnames=_STATIC)
def _left_out(left: Folds, count: int, ridge_lambda: float | None) -> jax.Array:
    """Leave-one-out weights float64[G, A, A]."""
    weights = jax.lax.map(
        lambda fold: nearest_ridge(fold[0], fold[1], count, ridge_lambda),
        (left.problems, left.queries),
    )
    return rows_of_folds(left.others, weights)


def topk_ridge(count: int | None) -> Solver:
    """Ridge with an intercept on the nearest anchors.

    Args:
      count: K; None takes `Options.top_k`. More than there are anchors means all of them.
        Without a given penalty, leave-one-out chooses one among the K anchors of each query.
    """

    def fit(problem: Problem, options: Options) -> Fit:
        top_k = min(count or options.top_k, problem.anchors)
        ridge_lambda = np.nan if options.ridge_lambda is None else options.ridge_lambda
        rows = np.zeros(problem.source.shape)
        if problem.anchors > 1:
            among = min(top_k, problem.anchors - 1)
            rows = _left_out(folds(problem), among, options.ridge_lambda)
        state = {'top_k': np.array(top_k), 'ridge_lambda': np.array(ridge_lambda)}
        return Fit(state, {'top_k': top_k}, rows)

    def weights(state: State, problem: Problem, queries: Query) -> np.ndarray:
        ridge_lambda = state['ridge_lambda'].item()  # NaN: chosen for each query
        fixed = None if np.isnan(ridge_lambda) else ridge_lambda
        return _weights(problem, queries, state['top_k'].item(), fixed)

    layout = {'top_k': indices('', below='A', first=1), 'ridge_lambda': numbers('', 'nan')}
    return Solver(fit, weights, layout)
