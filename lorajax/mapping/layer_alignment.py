"""Which tensors of the source a target tensor looks at.

Anchor methods need no map between widths: they compare source adapters with source adapters
and combine target adapters. Depth and projection enter only through a mixing matrix
float64[G, X]: the kernel of group g is sum_x mix[g, x] * K_x over the source tensors x, and each
target tensor belongs to one group.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Tensors = Sequence[tuple[str, int]]  # projection and layer of each tensor


class Grouping(NamedTuple):
    """Source tensors mixed into groups, target tensors assigned to groups."""

    mix: np.ndarray  # float64[G, X]
    group_of: np.ndarray  # int64[Y]

    def kernels(self, source: np.ndarray) -> np.ndarray:
        """Mixes source arrays over their first axis: float64[X, ...] -> float64[G, ...]."""
        return np.tensordot(self.mix, source, 1)

    def targets(self, target: np.ndarray) -> np.ndarray:
        """Sums target arrays over each group: float64[Y, ...] -> float64[G, ...]."""
        summed = np.zeros((len(self.mix), *target.shape[1:]))
        np.add.at(summed, self.group_of, target)
        return summed


def matching_layer(layer: int, target_layers: int, source_layers: int) -> int:
    """Returns the source layer at the same relative depth, rounded half to even.

    A single target layer is the last.
    """
    if target_layers == 1:
        return source_layers - 1
    return round(layer * (source_layers - 1) / (target_layers - 1))


def one_group(source: Tensors, target: Tensors) -> Grouping:
    """All source tensors count alike for all target tensors; the kernels are summed."""
    return Grouping(np.ones((1, len(source))), np.zeros(len(target), np.int64))


def by_module(source: Tensors, target: Tensors) -> Grouping:
    """One group per projection; a projection that the source lacks looks at all tensors."""
    names = list(dict.fromkeys(projection for projection, _ in target))
    mix = np.array([[float(x == name) for x, _ in source] for name in names])
    mix[mix.sum(1) == 0] = 1.0
    return Grouping(mix, np.array([names.index(projection) for projection, _ in target]))


def by_tensor(source: Tensors, target: Tensors) -> Grouping:
    """One group per target tensor: the source tensor of that projection at equal depth.

    A projection that the source lacks looks at all source tensors instead.
    """
    mix = np.zeros((len(target), len(source)))
    index = {tensor: x for x, tensor in enumerate(source)}
    depth_x, depth_y = _depths(source), _depths(target)
    for y, (projection, layer) in enumerate(target):
        if projection in depth_x:
            match = matching_layer(layer, depth_y[projection], depth_x[projection])
            mix[y, index[projection, match]] = 1.0
        else:
            mix[y] = 1.0
    return Grouping(mix, np.arange(len(target)))


def averaged(grouping: Grouping) -> Grouping:
    """Scales the mixing rows to sum to 1, for kernels that were normalised per tensor."""
    return grouping._replace(mix=grouping.mix / grouping.mix.sum(1, keepdims=True))


def between(coarse: Grouping, fine: Grouping, share: float) -> Grouping:
    """Mixes a one-group and a per-tensor grouping: share * coarse + (1 - share) * fine.

    Ridge with this kernel gives each tensor the weights w_global + delta_tensor, each part
    with its own penalty (Evgeniou and Pontil 2004, regularised multi-task).
    """
    return fine._replace(mix=share * coarse.mix + (1.0 - share) * fine.mix)


def _depths(tensors: Tensors) -> dict[str, int]:
    """Number of layers of each projection."""
    depths: dict[str, int] = {}
    for projection, layer in tensors:
        depths[projection] = max(depths.get(projection, 0), layer + 1)
    return depths
