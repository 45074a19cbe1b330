"""What `doctor` says beyond bytes: which settings fit, and how long the work takes."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.experiment.config import Experiment
from lorajax.models import ModelConfig
from lorajax.models.transformer import REMAT_POLICIES

# Measured shares of the matrix rate (docs/results.md, 2026-11-26, two CPU cores): of a LoRA step of
# 118 M weights at 4 N operations a token, and of decoding with 8 adapters of 32 prompts.
STEP_SHARE = 0.61
DECODE_SHARE = 0.75
_SIZE = {'cpu': 1024}  # rows of the product that is timed; more where a device needs more to do
_LARGE = 8192


def changes(experiment: Experiment, adapters: int, variants: int) -> Iterator[Experiment]:
    """Yields settings that need ever less memory and give the same results, the given ones first.

    Args:
      experiment: as it is given.
      adapters: that are trained together where the setting leaves it open.
      variants: that are evaluated together.
    """
    policies = list(REMAT_POLICIES)
    remats = policies[policies.index(experiment.remat) :]
    together = [experiment.adapters_per_step]
    together += [n for n in _halves(max(adapters, variants)) if not together[0] or n < together[0]]
    for remat, number, rows in itertools.product(
        remats, together, [experiment.eval_batch_size, *_halves(experiment.eval_batch_size)]
    ):
        yield dataclasses.replace(
            experiment, remat=remat, adapters_per_step=number, eval_batch_size=rows
        )


def _halves(number: int) -> list[int]:
    """Returns half of a number, half of that, and so on, down to 1."""
    halves = []
    while number > 1:
        number = -(-number // 2)
        halves.append(number)
    return halves


def advise(
    experiment: Experiment, adapters: int, variants: int, fits: Callable[[Experiment], bool]
) -> str | None:
    """Returns the flags of the first settings of `changes` that fit; None if none do.

    Where the given settings fit, '' is returned.
    """
    for changed in changes(experiment, adapters, variants):
        if fits(changed):
            names = ('remat', 'adapters_per_step', 'eval_batch_size')
            return ' '.join(
                f'--{name}={getattr(changed, name)}'
                for name in names
                if getattr(changed, name) != getattr(experiment, name)
            )
    return None


def matrix_rate(dtype: str, repeats: int = 3) -> float:
    """Returns what a device multiplies a second, in operations, measured now in under a second.

    Args:
      dtype: of the matrices.
      repeats: products, of which the fastest counts.
    """
    size = _SIZE.get(jax.devices()[0].platform, _LARGE)
    left = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), dtype)
    multiply = jax.jit(jnp.matmul)
    multiply(left, left).block_until_ready()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        multiply(left, left).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


PEAK_SHARE = 0.4  # of an accelerator's bfloat16 peak in large products: a guess, not measured


def training_seconds(config: ModelConfig, tokens: float, rate: float, remat: str) -> float:
    """Estimates how long a number of tokens is trained.

    Args:
      config: of the base model.
      tokens: of all adapters and passes.
      rate: operations a second of all devices, from `matrix_rate`.
      remat: what the backward pass computes again: all of the forward pass if 'full'.
    """
    operations = (6 if remat == 'full' else 4) * config.num_matmul_params * tokens
    return operations / (STEP_SHARE * rate)


def evaluation_seconds(config: ModelConfig, tokens: float, rate: float) -> float:
    """Returns the seconds that prompts and answers take, by estimate.

    Args:
      config: of the base.
      tokens: of prompts and answers of all adapters.
      rate: operations a second in products of large matrices.
    """
    return 2 * config.num_matmul_params * tokens / (DECODE_SHARE * rate)


def show(seconds: float) -> str:
    """Returns a duration in the unit that people would take."""
    for limit, unit in ((90, 1), (5400, 60), (172800, 3600)):
        if seconds < limit:
            names = {1: 'seconds', 60: 'minutes', 3600: 'hours'}
            return f'{max(seconds / unit, 1):.0f} {names[unit]}'
    return f'{seconds / 86400:.0f} days'
