"""L-BFGS beside scipy's, on functions whose minimum is known."""

import numpy as np
import pytest
from scipy import optimize

from lorajax.distillation.lbfgs import Lbfgs


def descend(function, start, evaluations, length=0.1):
    """Returns the optimizer after some evaluations, and every value that it was told."""
    optimizer, values = Lbfgs(np.array(start, float), length=length), []
    for _ in range(evaluations):
        value, gradient = function(optimizer.point)
        optimizer.tell(value, gradient)
        values.append(value)
    return optimizer, values


def rosenbrock(x):
    return optimize.rosen(x), optimize.rosen_der(x)


def test_it_needs_about_as_many_evaluations_as_scipy():
    theirs = optimize.minimize(
        rosenbrock, [-1.2, 1.0], jac=True, method='L-BFGS-B', options={'gtol': 1e-6}
    )
    ours, _ = descend(rosenbrock, [-1.2, 1.0], int(1.5 * theirs.nfev))
    np.testing.assert_allclose(ours.best, 1.0, atol=1e-3)


def test_a_quadratic_of_few_curvatures_ends_in_few_steps():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(40, 40)))
    curvatures = np.repeat([1.0, 10.0, 300.0], [30, 8, 2])
    matrix = (basis * curvatures) @ basis.T
    goal = rng.normal(size=40)

    def quadratic(x):
        return 0.5 * (x - goal) @ matrix @ (x - goal), matrix @ (x - goal)

    ours, _ = descend(quadratic, np.zeros(40), 25)
    np.testing.assert_allclose(ours.best, goal, atol=1e-4)


def test_the_best_never_gets_worse_and_what_is_no_number_shortens_the_step():
    def walled(x):  # -log is not defined beyond 1
        with np.errstate(invalid='ignore', divide='ignore'):
            return float(-np.log(1 - x).sum() - 3 * x.sum()), 1 / (1 - x) - 3

    ours, values = descend(walled, np.zeros(2), 30, length=5.0)
    assert not np.isfinite(values[1])
    np.testing.assert_allclose(ours.best, 2 / 3, atol=1e-5)
    assert walled(ours.best)[0] == min(v for v in values if np.isfinite(v))


@pytest.mark.parametrize('length', [0.1, 2.0])
def test_the_first_step_has_the_length_that_is_asked_for(length):
    ours, _ = descend(rosenbrock, [-1.2, 1.0], 1, length=length)
    assert np.linalg.norm(ours.point - [-1.2, 1.0]) == pytest.approx(length)
