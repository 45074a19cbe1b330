"""What the speed benchmarks share: turns of ours, the peer and the machine, and their table.

Rates are kept, more is better: so a ratio is ours by theirs, and a share ours by the limit.
"""

import dataclasses
import os
import pathlib
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HEADER = (
    '| work | unit | peer | lorajax | ratio | limit | share of the limit | goal | |\n'
    '| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |'
)


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a row should reach.

    Attributes:
      least: is enough.
      of: what is looked at: 'ratio' (to the peer), 'share' (of the limit), or other words.
      reached: for other words what there is.
    """

    least: float
    of: str = 'ratio'
    reached: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: a list has an entry for each repetition, or none at all.

    Attributes:
      work: what is done.
      unit: of the rates.
      ours: rates of lorajax.
      theirs: rates of the peer.
      limits: rates that the machine's matrix product would allow.
      goal: what is judged, if something is.
      note: in words.
    """

    work: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    limits: Sequence[float] = ()
    goal: Goal | None = None
    note: str = ''

    @property
    def ratios(self) -> list[float]:
        """Ours by the peer's, of each repetition."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=False)]

    @property
    def shares(self) -> list[float]:
        """Ours by the limit, of each repetition."""
        return [a / b for a, b in zip(self.ours, self.limits, strict=False)]

    @property
    def is_met(self) -> bool | None:
        """Whether the median reaches the goal; None without a goal, or without what it is of."""
        if self.goal is None:
            return None
        values = {'ratio': self.ratios, 'share': self.shares}.get(self.goal.of)
        reached = statistics.median(values) if values else self.goal.reached
        return None if reached is None else reached >= self.goal.least

    def __str__(self) -> str:
        goal = ''
        if self.goal:
            verdict = {True: 'met', False: 'missed', None: 'not judged'}[self.is_met]
            goal = f'{self.goal.of} {self.goal.least:g}: {verdict}'
        cells = [self.work, self.unit, spread(self.theirs), spread(self.ours)]
        cells += [spread(self.ratios), spread(self.limits), spread(self.shares), goal, self.note]
        return f'| {" | ".join(cells)} |'


def spread(values: Sequence[float]) -> str:
    """Returns the median and the range in three digits; nothing of nothing."""
    if not values:
        return ''
    low, middle, high = (_digits(f(values)) for f in (min, statistics.median, max))
    return middle if len(values) == 1 else f'{middle} [{low}, {high}]'


def _digits(value: float) -> str:
    """Returns three digits, all of them before the point where they are more."""
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'


def seconds(run: Callable[[], Any]) -> float:
    """Returns how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def matrix_rate(size: int = 2048, dtype: Any = 'float32', repetitions: int = 3) -> float:
    """Returns floating-point operations a second of a product of two square matrices in JAX."""
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    best = min(
        seconds(lambda: product(matrix, matrix).block_until_ready()) for _ in range(repetitions)
    )
    return 2 * size**3 / best


def torch_matrix_rate(size: int = 2048, repetitions: int = 3) -> float:
    """Returns the same of torch, in float32 on the CPU."""
    import torch

    matrix = torch.ones((size, size))
    return 2 * size**3 / min(seconds(lambda: matrix @ matrix) for _ in range(repetitions))


def best_matrix_rate() -> float:
    """Returns the better of both: what the machine can do does not depend on who asks."""
    return max(matrix_rate(), torch_matrix_rate())


def machine() -> str:
    """Names processor, cores, load and device."""
    text = pathlib.Path('/proc/cpuinfo').read_text() if os.path.exists('/proc/cpuinfo') else ''
    found = re.search(r'model name\s*: (.+)', text)
    name = found[1] if found else platform.machine()
    cores = len(os.sched_getaffinity(0))
    load = ', '.join(f'{value:.1f}' for value in os.getloadavg())
    devices = sorted({device.device_kind for device in jax.devices()})
    return f'{name}, {cores} cores, load {load}; {len(jax.devices())} x {", ".join(devices)}'


def random_adapter(
    projections: dict[str, tuple[int, int]], depth: int, rank: int, seed: int, size: float = 0.1
) -> dict:
    """Returns an adapter of all projections, large enough to change what is said.

    Args:
      projections: name -> (in, out).
      depth: layers.
      rank: of the factors.
      seed: of the values.
      size: standard deviation of `b`.
    """
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    return {
        'layers': {
            name: {
                'a': normal(depth, fan_in, rank, scale=fan_in**-0.5),
                'b': normal(depth, rank, fan_out, scale=size),
            }
            for name, (fan_in, fan_out) in projections.items()
        }
    }
