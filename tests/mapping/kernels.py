"""Small problems for solvers, and the features that they were made from."""

import numpy as np

from lorajax.mapping import solvers
from lorajax.mapping.options import Options


def make_data():
    """Returns source and target features of nine anchors, and a query's."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9, 20)) + 1
    y = x[:, :5] @ rng.normal(size=(5, 12)) + 0.3 * rng.normal(size=(9, 12))
    return x, y, rng.normal(size=20) + 1


def problem_of(x, y):
    """One group of linear kernels."""
    norms = np.linalg.norm(x, axis=1)
    return solvers.Problem((x @ x.T)[None], (y @ y.T)[None], x @ x.T / np.outer(norms, norms))


def query_of(x, query):
    """One query of one group."""
    cosines = x @ query / np.linalg.norm(x, axis=1) / np.linalg.norm(query)
    return solvers.Query((x @ query)[None, None], cosines[None])


def apply(solver, x, y, query, **options):
    """Returns the weights of a query, and what fitting says."""
    problem = problem_of(x, y)
    fit = solver.fit(problem, Options(**options))
    return solver.weights(fit.state, problem, query_of(x, query))[0, 0], fit.info
