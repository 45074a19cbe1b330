"""The scale alpha / rank, folded into `b` and taken out again.

PEFT stores `b` unscaled; trees carry fold(b) = float32(b * scale). Unless the scale is a power of
two, that map of float32 numbers is neither one to one nor onto: of normally distributed numbers,
10 to 15 % are the fold of nothing and as many share theirs with a neighbour.
"""

import numpy as np


def fold(b: np.ndarray, scale: float) -> np.ndarray:
    """Returns float32 `b * scale`, rounded as PEFT rounds the scaled output of its `lora_B`."""
    with np.errstate(over='ignore'):  # the caller refuses what is not finite
        return b.astype(np.float32) * np.float32(scale)


def unfold(folded: np.ndarray, scale: float) -> np.ndarray:
    """Returns the float32 that `fold` turns into `folded`, or nearly where there is none.

    What folds to a number lies in an interval around number / scale that is symmetric (but below
    powers of two), so the nearest float32 is in it if any is: no other need be tried.

    Args:
      folded: float32 array.
      scale: > 0.
    """
    with np.errstate(over='ignore'):
        return folded.astype(np.float32) / np.float32(scale)


def same_bits(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns bool, for each element of two float32 arrays whether the bits are equal."""
    return np.ascontiguousarray(x).view(np.int32) == np.ascontiguousarray(y).view(np.int32)
