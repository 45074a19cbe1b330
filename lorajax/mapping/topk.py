"""Ridge on the K anchors nearest to the query.

The anchors are ranked once, by the cosine between whole source adapters, also for methods that
solve one problem per tensor: so the seed's selection log reads.
"""

import numpy as np

from lorajax.mapping import ridge
from lorajax.mapping.options import Options
from lorajax.mapping.solvers import Problem, Query, Rule, State, refit
from lorajax.types import JsonDict


def nearest_anchors(cosines: np.ndarray, count: int) -> np.ndarray:
    """Returns int[min(count, A)], the anchors of largest cosine, nearest first."""
    return np.argsort(-cosines, kind='stable')[:count]


def topk_ridge(count: int | None) -> Rule:
    """Ridge with an intercept on the nearest anchors.

    Args:
      count: K; None takes `Options.top_k`. More than there are anchors means all of them.
        Without a given penalty, leave-one-out chooses one among the K anchors of each query.
    """

    def fit(problem: Problem, options: Options) -> tuple[State, JsonDict]:
        top_k = min(count or options.top_k, problem.anchors)
        given = np.nan if options.ridge_lambda is None else options.ridge_lambda
        return {'top_k': np.array(top_k), 'given': np.array(given)}, {'top_k': top_k}

    def weights(state: State, problem: Problem, query: Query) -> np.ndarray:
        members = nearest_anchors(query.cosines, state['top_k'].item())
        near = problem.keep(members)
        kernel = ridge.centre(near.source)
        given = state['given'].item()
        if np.isnan(given):
            penalty = ridge.choose_penalty(near.source, near.target)
            penalty = np.minimum(penalty, ridge.RELATIVE_GRID[-2] * kernel.mean_diagonal)
        else:
            penalty = np.full(len(near.source), given)
        result = np.zeros(query.source.shape)
        result[:, members] = ridge.weights(kernel, query.source[:, members], penalty)
        return result

    def left_out(state: State, problem: Problem) -> np.ndarray:
        return refit(lambda rest, query: weights(state, rest, query), problem)

    return Rule(fit, weights, left_out)
