"""Adapter trees: made, stacked on the adapter axis, taken apart."""

from collections.abc import Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lorajax.errors import ArgumentError
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


def pad_rank(adapter: Adapter, rank: int) -> Adapter:
    """Widens every factor to `rank` with zeros; the update is unchanged, bit for bit.

    Raises:
      ArgumentError: if a factor is wider than `rank`.
    """

    def widen(entry: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        missing = rank - entry['a'].shape[-1]
        if missing < 0:
            raise ArgumentError('rank', rank, f'expected at least {entry["a"].shape[-1]}')
        return {
            'a': np.pad(entry['a'], ((0, 0), (0, 0), (0, missing))),
            'b': np.pad(entry['b'], ((0, 0), (0, missing), (0, 0))),
        }

    return {'layers': {name: widen(entry) for name, entry in adapter['layers'].items()}}


def stack(adapters: Sequence[Adapter]) -> Adapter:
    """Stacks equal-shaped adapters on a leading axis A, on the host."""
    if len(adapters) > 1:  # chex refuses to compare one with nothing
        chex.assert_trees_all_equal_structs(*adapters)
        chex.assert_trees_all_equal_shapes(*adapters)
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *adapters)


def unstack(adapters: Adapter) -> list[Adapter]:
    """Undoes `stack`; the results are numpy arrays."""
    host = jax.tree.map(np.asarray, adapters)
    count = jax.tree.leaves(host)[0].shape[0]
    return [jax.tree.map(lambda leaf, i=i: leaf[i], host) for i in range(count)]
