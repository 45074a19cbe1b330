"""Ridge from the source's scores to the target's leading principal components.

With the centred target Gram matrix H K^Y H = U diag(l) U^T, keeping M components of the predicted
target is a projection of the ridge weights: w = 1/A + U_M U_M^T alpha, where alpha are the
weights of plain ridge less 1/A. So neither scores nor components are ever formed.

Source of the method: "Predicting LoRA Adapters Across Model Families" (OpenReview HF8qoeEo1u),
per-tensor PCA, here in its dual form.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.mapping import ridge
from lorajax.mapping.float64 import on_host
from lorajax.mapping.layout import indices, numbers
from lorajax.mapping.options import Options
from lorajax.mapping.ridge import CentredKernel
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
from lorajax.types import Array, JsonDict


def component_weights(
    source: CentredKernel, target: CentredKernel, cross: Array, penalty: Array
) -> jax.Array:
    """Returns the weights with 0, 1, ... A - 1 components kept, float64[A, ..., A].

    Args:
      source, target: kernels of the anchors on both sides, batch axes [...].
      cross: float64[..., A], the query's kernel row.
      penalty: float64[...], > 0.
    """
    mean = 1.0 / cross.shape[-1]
    alpha = ridge.weights(source, cross, penalty) - mean
    components = target.vectors[..., ::-1]  # largest first
    parts = components * jnp.einsum('...kj,...k->...j', components, alpha)[..., None, :]
    sums = jnp.cumsum(jnp.moveaxis(parts, -1, 0), 0)
    none = jnp.zeros((1, *sums.shape[1:]))
    return mean + jnp.concatenate([none, sums])


class _Chosen(NamedTuple):
    """Index of the penalty, number of components, and the left-out weights float64[G, A, A]."""

    penalty: Array
    components: Array
    left_out: Array


@on_host
def _choose(left: Folds, target: Array, penalties: Array) -> _Chosen:
    """Tries every penalty with every number of components on anchors left out.

    Every fold computes its own components, so a left-out anchor has no part in them.

    Args:
      left: the folds.
      target: float64[G, A, A].
      penalties: float64[N, G].
    """
    source_kernel = ridge.centre(left.problems.source)
    target_kernel = ridge.centre(left.problems.target)

    def rows(penalty: Array) -> jax.Array:  # float64[A - 1, G, A, A]
        cross = left.queries.source
        return rows_of_folds(
            left.others, component_weights(source_kernel, target_kernel, cross, penalty)
        )

    scores = jax.lax.map(lambda penalty: ridge.loo_r2(rows(penalty), target), penalties)
    index, components = jnp.unravel_index(jnp.argmax(scores), scores.shape)
    return _Chosen(index, components, rows(penalties[index])[components])


@on_host
def _weights(problem: Problem, cross: Array, penalty: Array, components: Array) -> jax.Array:
    """Weights float64[C, G, A] of queries float64[C, G, A]."""
    kernels = ridge.centre(problem.source), ridge.centre(problem.target)
    return jax.vmap(lambda row: component_weights(*kernels, row, penalty)[components])(cross)


_mean_diagonal = on_host(lambda kernel: ridge.centre(kernel).mean_diagonal)


def principal_components() -> Solver:
    """Principal component ridge; components and penalty by leave-one-out, equal for all groups."""

    def fit(problem: Problem, options: Options) -> Fit:
        scale = _mean_diagonal(problem.source)
        if options.ridge_lambda is not None:
            penalties = np.full((1, len(scale)), float(options.ridge_lambda))
        else:
            penalties = ridge.RELATIVE_GRID[:-1:2, None] * scale
        if problem.anchors < 3:
            rows = ridge.mean_leave_one_out(problem.anchors)
            state = {'penalty': penalties[-1], 'components': np.array(0)}
            return Fit(state, {'components': 0}, np.broadcast_to(rows, problem.source.shape))
        choice = _choose(folds(problem), problem.target, penalties)
        chosen = penalties[choice.penalty]
        info: JsonDict = {
            'components': int(choice.components),
            'ridge_lambda': float(np.median(chosen)),
            'ridge_lambda_relative': float(np.median(chosen / scale)),
        }
        return Fit({'penalty': chosen, 'components': choice.components}, info, choice.left_out)

    def weights(state: State, problem: Problem, queries: Query) -> np.ndarray:
        return _weights(problem, queries.source, state['penalty'], state['components'])

    layout = {'penalty': numbers('G'), 'components': indices('', below='A')}
    return Solver(fit, weights, layout)
