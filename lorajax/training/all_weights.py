"""Training of all weights of a decoder, which makes base models: the toy's and those of text."""

import functools
from collections.abc import Iterator

import jax
import optax
from absl import logging

from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.tasks.batching import Batch
from lorajax.types import Params

_LOG_EVERY = 50  # steps


@functools.cache
def make_optimizer(
    steps: int, peak: float, last: float = 0.0, decay: float = 0.01
) -> optax.GradientTransformation:
    """Returns AdamW with a rise and a cosine; one object for equal arguments, as it is static.

    Args:
      steps: of the whole training; a twentieth of them rise.
      peak: the highest learning rate.
      last: the learning rate at the end.
      decay: of the weights, at a learning rate of 1.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, steps // 20, steps, last)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=decay)
    )


@functools.partial(jax.jit, static_argnames=('module', 'optimizer'), donate_argnums=(2, 3))
def take_step(
    module: Transformer,
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: optax.OptState,
    batch: Batch,
) -> tuple[Params, optax.OptState, jax.Array]:
    """Takes one step on the targets of a batch.

    Args:
      module: the decoder.
      optimizer: of all weights.
      params: its weights; donated.
      opt_state: of the optimizer; donated.
      batch: sequences; segments do not see each other.

    Returns:
      New weights and state, and float32[], the loss before the step, nats per target.
    """

    def loss(params: Params) -> jax.Array:
        return target_nll(module, params, None, *batch).sum() / batch.target_mask.sum()

    value, grads = jax.value_and_grad(loss)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value


def train(
    module: Transformer,
    params: Params,
    batches: Iterator[Batch],
    steps: int,
    optimizer: optax.GradientTransformation,
) -> Params:
    """Returns the weights after some steps, each on the next batch.

    Args:
      module: the decoder.
      params: where to begin; given away.
      batches: at least one a step, all of one shape.
      steps: how many.
      optimizer: see `make_optimizer`.
    """
    opt_state = optimizer.init(params)
    for step in range(steps):
        params, opt_state, value = take_step(module, optimizer, params, opt_state, next(batches))
        if step % _LOG_EVERY == 0 or step == steps - 1:
            logging.info('step %d of %d: loss %.4f nats per token', step, steps, value)
    return params
