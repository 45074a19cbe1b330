"""Few-shot reweighting: a combination of the anchors, fitted to a few examples of the new task.

No translation: it sees data of the task on the target, and needs no source adapter at all.

Source: LoraHub (Huang et al. 2023, arXiv 2307.13269), there one weight per adapter, found without
gradients; here one per adapter and tensor, by gradient descent.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lorajax.errors import InputError
from lorajax.lora import stack
from lorajax.models import Model
from lorajax.models.loss import target_nll
from lorajax.models.transformer import Transformer
from lorajax.tasks.batching import Batch, bucket, make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.types import Adapter, Params

Weights = dict[str, jax.Array]  # projection -> float32[L, A]


def combine(anchors: Adapter, weights: Weights) -> Adapter:
    """Returns the weighted sum of updates, exactly, as one adapter of rank A R.

    Args:
      anchors: stacked on a leading axis A.
      weights: float32[L, A] for each projection.
    """
    layers = {}
    for name, entry in anchors['layers'].items():
        weighted = entry['b'] * weights[name].T[:, :, None, None]  # A L R out
        layers[name] = {
            'a': jnp.concatenate(list(entry['a']), axis=-1),
            'b': jnp.concatenate(list(weighted), axis=-2),
        }
    return {'layers': layers}


@functools.partial(jax.jit, static_argnames=('module', 'steps', 'learning_rate'))
def _descend(
    module: Transformer,
    params: Params,
    anchors: Adapter,
    start: Weights,
    batch: Batch,
    steps: int,
    learning_rate: float,
) -> tuple[Weights, jax.Array]:
    """Returns the weights after some steps of Adam on one batch, and the loss before each."""
    optimizer = optax.adam(learning_rate)

    def loss(weights: Weights) -> jax.Array:
        nll = target_nll(module, params, combine(anchors, weights), *batch)
        return nll.sum() / jnp.maximum(batch.target_mask.sum(), 1.0)

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        weights, state = carry
        value, grads = jax.value_and_grad(loss)(weights)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(weights, updates), state), value

    (weights, _), losses = jax.lax.scan(step, (start, optimizer.init(start)), None, steps)
    return weights, losses


def reweight(
    model: Model,
    anchors: Mapping[str, Adapter],
    examples: Mapping[str, Sequence[Encoded]],
    *,
    pad_id: int,
    steps: int = 60,
    learning_rate: float = 0.05,
) -> dict[str, Adapter]:
    """Fits weights of the anchors to each task's few examples, all in one batch.

    Args:
      model: the target.
      anchors: adapters of it with the same projections and rank R, A of them.
      examples: by task; the same number for each, so that one program is compiled.
      pad_id: fills the batch.
      steps: of Adam, from the mean of the anchors on.
      learning_rate: of Adam.

    Returns:
      Adapters of rank A R by task, on the host.

    Raises:
      InputError: if a loss is not finite.
    """
    stacked = stack(list(anchors.values()))
    count = len(anchors)
    start = {
        name: jnp.full((entry['a'].shape[1], count), 1.0 / count)
        for name, entry in stacked['layers'].items()
    }
    rows = max(len(few) for few in examples.values())
    length, targets = (bucket(n) for n in shape_of([e for few in examples.values() for e in few]))
    fitted = {}
    for task, few in examples.items():
        batch = make_batch(few, rows, length, targets, pad_id)
        weights, losses = _descend(
            model.module, model.params, stacked, start, batch, steps, learning_rate
        )
        if not np.isfinite(np.asarray(losses)).all():
            raise InputError(f'{task}: a loss of the reweighting is not finite')
        fitted[task] = jax.tree.map(np.asarray, combine(stacked, weights))
    return fitted
