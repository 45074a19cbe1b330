"""L-BFGS that is told values, so that many problems can be evaluated in one compiled step."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_DECREASE = 1e-4  # of what the slope promises, that a step must reach
_SHORTEN = 0.1, 0.5  # least and most that is left of a step that was too long
_CURVATURE = 1e-10  # cosine of a step with the change of the gradient, below which it says nothing


class Lbfgs:
    """Goes down a smooth function: evaluate it at `point`, `tell` the result, and so on.

    Every evaluation counts: one whose value is too high shortens the step, by the minimum of a
    parabola through what is known. There is no search for a slope that is flat enough; a pair of
    changes that has no positive curvature is not remembered.

    Attributes:
      best: float64[n], the point of the lowest value that was told.
      point: float64[n], where to evaluate next.

    Source: Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5, section 3.5.
    """

    def __init__(self, start: Floats, *, length: float, memory: int = 12) -> None:
        """Begins at a point.

        Args:
          start: float64[n].
          length: of the first step.
          memory: how many changes of the gradient are remembered.
        """
        self.best = self.point = np.asarray(start, np.float64)
        self._length, self._memory = length, memory
        self._value, self._gradient = np.inf, np.zeros_like(self.best)
        self._direction, self._share = np.zeros_like(self.best), 1.0
        self._pairs: list[tuple[Floats, Floats]] = []

    def tell(self, value: float, gradient: Floats) -> None:
        """Takes the value and the gradient float64[n] at `point`, and moves `point`."""
        slope = float(self._gradient @ self._direction)
        if not value <= self._value + _DECREASE * self._share * slope:
            excess = value - self._value - slope * self._share
            wanted = -slope * self._share / (2 * excess) if np.isfinite(excess) else 0.0
            self._share *= min(max(wanted, _SHORTEN[0]), _SHORTEN[1])
        else:
            if np.isfinite(self._value):
                self._remember(self.point - self.best, gradient - self._gradient)
            self.best, self._value, self._gradient = self.point, value, gradient
            self._direction, self._share = self._downhill(), 1.0
        self.point = self.best + self._share * self._direction

    def _remember(self, step: Floats, change: Floats) -> None:
        """Keeps a step and the change of the gradient along it."""
        least = _CURVATURE * np.linalg.norm(step) * np.linalg.norm(change)
        if step @ change > least:
            self._pairs = [*self._pairs, (step, change)][-self._memory :]

    def _downhill(self) -> Floats:
        """Returns minus the gradient times what is known of the inverse second derivative."""
        rest, shares = self._gradient.copy(), []
        for step, change in reversed(self._pairs):
            shares.append((step @ rest) / (step @ change))
            rest -= shares[-1] * change
        if self._pairs:
            step, change = self._pairs[-1]
            rest *= (step @ change) / (change @ change)
        else:
            rest *= self._length / max(float(np.linalg.norm(rest)), np.finfo(float).tiny)
        for (step, change), share in zip(self._pairs, reversed(shares), strict=True):
            rest += (share - (change @ rest) / (step @ change)) * step
        return -rest
