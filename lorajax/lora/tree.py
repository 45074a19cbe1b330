"""Adapter trees: made, stacked on the adapter axis, taken apart."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.types import Adapter


def init_adapter(
    key: jax.Array,
    projections: Mapping[str, tuple[int, int]],
    num_layers: int,
    rank: int,
    targets: Sequence[str],
) -> Adapter:
    """Returns a fresh adapter: `a` uniform, `b` zero, so that the update is zero.

    Every layer draws its own `a` with the fan-in of one layer, as PEFT does
    (kaiming_uniform with a = sqrt(5), which is uniform in +-1 / sqrt(fan_in)).

    Args:
      key: PRNG key; adapters that share it share their initial `a`, which is what makes
        factors of different adapters comparable.
      projections: input and output width by name, see `ModelConfig.projections`.
      num_layers: L.
      rank: R.
      targets: which projections to adapt.

    Returns:
      The tree, float32.
    """
    layers = {}
    for index, name in enumerate(projections):
        if name in targets:
            fan_in, fan_out = projections[name]
            bound = fan_in**-0.5
            layers[name] = {
                'a': jax.random.uniform(
                    jax.random.fold_in(key, index),
                    (num_layers, fan_in, rank),
                    minval=-bound,
                    maxval=bound,
                ),
                'b': jnp.zeros((num_layers, rank, fan_out)),
            }
    return {'layers': layers}


def fold_scale(adapter: Adapter, scale: float | jax.Array) -> Adapter:
    """Returns the adapter with `b` multiplied by `scale`."""
    return {
        'layers': {
            name: {'a': entry['a'], 'b': entry['b'] * scale}
            for name, entry in adapter['layers'].items()
        }
    }


def zero_adapter_like(adapter: Adapter) -> Adapter:
    """Returns an adapter of the same shapes that changes nothing, exactly."""
    return jax.tree.map(np.zeros_like, adapter)


def stack(adapters: Sequence[Adapter]) -> Adapter:
    """Stacks equal-shaped adapters on a leading axis A, on the host."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *adapters)


def unstack(adapters: Adapter) -> list[Adapter]:
    """Undoes `stack`; the results are numpy arrays."""
    host = jax.tree.map(np.asarray, adapters)
    count = jax.tree.leaves(host)[0].shape[0]
    return [jax.tree.map(lambda leaf, i=i: leaf[i], host) for i in range(count)]
