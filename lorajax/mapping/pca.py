"""Ridge from the source's scores to the target's leading principal components.

With the centred target Gram matrix H K^Y H = U diag(l) U^T, keeping M components of the predicted
target is a projection of the ridge weights: w = 1/A + U_M U_M^T alpha, where alpha are the
weights of plain ridge less 1/A. So neither scores nor components are ever formed.

Source of the method: "Predicting LoRA Adapters Across Model Families" (OpenReview HF8qoeEo1u),
per-tensor PCA, here in its dual form.
"""

import numpy as np

from lorajax.mapping import ridge
from lorajax.mapping.options import Options
from lorajax.mapping.solvers import Problem, Query, Rule, State, folds, refit
from lorajax.types import JsonDict


def component_weights(problem: Problem, query: Query, penalty: np.ndarray) -> np.ndarray:
    """Returns the weights with 0, 1, ... A - 1 components kept, float64[A, G, A]."""
    anchors = problem.anchors
    alpha = ridge.weights(ridge.centre(problem.source), query.source, penalty) - 1.0 / anchors
    components = ridge.centre(problem.target).vectors[..., ::-1]  # largest first
    parts = np.einsum('gij,gkj,gk->jgi', components, components, alpha)
    return 1.0 / anchors + np.concatenate([np.zeros_like(parts[:1]), np.cumsum(parts, 0)[:-1]])


def principal_components() -> Rule:
    """Principal component ridge; components and penalty by leave-one-out, equal for all groups.

    Every fold computes its own components, so a left-out anchor has no part in them.
    """

    def fit(problem: Problem, options: Options) -> tuple[State, JsonDict]:
        scale = ridge.centre(problem.source).mean_diagonal
        if options.ridge_lambda is not None:
            penalties = np.full((1, len(scale)), float(options.ridge_lambda))
        else:
            penalties = ridge.RELATIVE_GRID[:-1:2, None] * scale
        if problem.anchors < 3:
            return {'penalty': penalties[-1], 'components': np.array(0)}, {'components': 0}
        best = -np.inf
        for penalty in penalties:
            scores = _scores(problem, penalty)
            if scores.max() > best:
                best, chosen, components = scores.max(), penalty, int(scores.argmax())
        info = {
            'components': components,
            'ridge_lambda': float(np.median(chosen)),
            'ridge_lambda_relative': float(np.median(chosen / scale)),
        }
        return {'penalty': chosen, 'components': np.array(components)}, info

    def weights(state: State, problem: Problem, query: Query) -> np.ndarray:
        components = state['components'].item()
        return component_weights(problem, query, state['penalty'])[components]

    def left_out(state: State, problem: Problem) -> np.ndarray:
        components = min(state['components'].item(), max(problem.anchors - 2, 0))
        return refit(
            lambda rest, query: component_weights(rest, query, state['penalty'])[components],
            problem,
        )

    return Rule(fit, weights, left_out)


def _scores(problem: Problem, penalty: np.ndarray) -> np.ndarray:
    """Leave-one-out R2 for each number of components, float64[A - 1]."""
    anchors = problem.anchors
    rows = np.zeros((anchors - 1, *problem.source.shape))
    for i, (others, rest, query) in enumerate(folds(problem)):
        rows[:, :, i, others] = component_weights(rest, query, penalty)
    return ridge.loo_r2(rows, problem.target)
