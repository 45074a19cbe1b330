"""AdamW and its learning rates, all of optax."""

import functools

import numpy as np
import optax

from lorajax.training.config import TrainConfig


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Returns AdamW for one adapter, without the learning rate.

    The rate differs between adapters of one step, which end at different steps, so it is a
    factor of its own; see `learning_rates`. Equal recipes get the same object, so that it can be
    a static argument of compiled functions.

    Source: Loshchilov & Hutter 2019, algorithm 2.
    """
    return _adamw(
        config.max_grad_norm, config.beta1, config.beta2, config.epsilon, config.weight_decay
    )


@functools.cache
def _adamw(
    max_grad_norm: float, beta1: float, beta2: float, epsilon: float, weight_decay: float
) -> optax.GradientTransformation:
    """Returns clipping, Adam and decoupled decay, one object for equal arguments."""
    return optax.chain(
        optax.clip_by_global_norm(max_grad_norm),
        optax.scale_by_adam(beta1, beta2, epsilon),
        optax.add_decayed_weights(weight_decay),
    )


def learning_rates(config: TrainConfig, num_steps: int) -> np.ndarray:
    """Returns float32[num_steps], the rate of every step of a training.

    With a warm-up, step t of N stands at t + 1 of N + 1: its first step would otherwise have a
    rate of zero and be wasted.

    Args:
      config: names peak, schedule and warm-up.
      num_steps: N, of one adapter.
    """
    offset = 1 if config.warmup_ratio else 0
    warmup = config.warmup_ratio * (num_steps + offset)  # in steps, not rounded to whole ones
    rest = max(num_steps + offset - warmup, 1.0)
    schedule = {
        'cosine': optax.cosine_decay_schedule(config.learning_rate, rest),
        'linear': optax.linear_schedule(config.learning_rate, 0.0, rest),
        'constant': optax.constant_schedule(config.learning_rate),
    }[config.schedule]
    if warmup:
        rise = optax.linear_schedule(0.0, config.learning_rate, warmup)
        schedule = optax.join_schedules([rise, schedule], [warmup])
    steps = np.arange(num_steps, dtype=np.float32) + offset
    return np.broadcast_to(np.asarray(schedule(steps), np.float32), steps.shape)
