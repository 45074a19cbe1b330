"""The scale alpha / rank, folded into `b` and taken out again without losing a bit.

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
    """Says for each element of two float32 arrays whether the bits are equal."""
    return np.ascontiguousarray(x).view(np.int32) == np.ascontiguousarray(y).view(np.int32)


def residual(unscaled: np.ndarray, folded: np.ndarray, scale: float) -> np.ndarray | None:
    """Returns by how many units in the last place `fold(unscaled)` misses `folded`.

    Args:
      unscaled: float32 array.
      folded: float32 array of the same shape.
      scale: > 0.

    Returns:
      int8 of the same shape (int32 if a number does not fit, as among subnormals); None if all
      are zero.
    """
    missing = _as_integers(folded) - _as_integers(fold(unscaled, scale))
    if not missing.any():
        return None
    return missing.astype(np.int8) if np.abs(missing).max() < 128 else missing


def add_residual(folded: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Returns `folded` moved by units in the last place."""
    return (_as_integers(folded) + missing.astype(np.int32)).view(np.float32)


def _as_integers(x: np.ndarray) -> np.ndarray:
    """Views float32 as integers, of which neighbours of one sign differ by one."""
    return np.ascontiguousarray(x).view(np.int32)
