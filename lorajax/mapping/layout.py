"""Which arrays a fitted mapping keeps, and of what shape: checked when one is read from files.

Each family of methods says beside its code what `predict` will look for, one `Leaf` an array:

  {'source': numbers('G A A'), 'group_of': indices('P', below='G')}

An axis is a number, a letter, or a letter with a factor and a term such as '3B+1'. Some letters
are known beforehand (A anchors, P target tensors, X source tensors); any other takes the size that
it has where it stands alone first.
"""

import dataclasses
import pathlib
import re
import types
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lorajax.errors import InputError
from lorajax.io.reading import shorten

Sizes = dict[str, int]  # letter -> size

_AXIS = re.compile(r'(\d*)([A-Za-z])([+-]\d+)?')


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array.

    Attributes:
      axes: of the array, in order.
      kind: of its dtype: 'f', 'i' or 'b'.
      first: smallest index, if the array holds indices.
      below: the axis that the indices belong to; a valid one is less than its size + `first`.
      strange: what its values may be beside finite numbers: 'nan', 'inf'.
    """

    axes: tuple[str, ...]
    kind: str
    first: int = 0
    below: str = ''
    strange: tuple[str, ...] = ()


Leaves = Mapping[str, Leaf]
NOTHING: Leaves = types.MappingProxyType({})


class Layout(NamedTuple):
    """What a mapping of a method consists of; see `state.MappingState`.

    arrays: by name. parts: names of the anchors and bases that it keeps. per_tensor: arrays of each
    target tensor, by name; {} for methods without.
    """

    arrays: Leaves
    parts: tuple[str, ...] = ()
    per_tensor: Leaves = NOTHING


def numbers(axes: str = '', *strange: str) -> Leaf:
    """Returns the leaf of floating-point numbers.

    Args:
      axes: separated by blanks.
      *strange: 'nan', 'inf', where they mean something.
    """
    return Leaf(tuple(axes.split()), 'f', strange=strange)


def indices(axes: str, below: str, first: int = 0) -> Leaf:
    """Returns the leaf of integers from `first` to `first` + the size of axis `below` - 1."""
    return Leaf(tuple(axes.split()), 'i', first, below)


def flags(axes: str) -> Leaf:
    """Returns the leaf of truth values."""
    return Leaf(tuple(axes.split()), 'b')


def prefixed(prefix: str, leaves: Leaves) -> dict[str, Leaf]:
    """Returns the leaves with a prefix before each name."""
    return {prefix + name: leaf for name, leaf in leaves.items()}


def check(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray], leaves: Leaves, sizes: Sizes
) -> Sizes:
    """Checks the arrays of a file.

    Args:
      path: of the file, for messages.
      arrays: that it holds.
      leaves: that it should hold.
      sizes: of the letters that are known.

    Returns:
      `sizes`, and those of the letters found here.

    Raises:
      InputError: if an array is missing, too many, of another shape or dtype, or holds a value
        that it may not hold.
    """
    if set(arrays) != set(leaves):
        wrong = sorted(set(arrays) ^ set(leaves))[0]
        verb = 'lacks' if wrong in leaves else 'holds'
        raise InputError(f'{path}: {verb} {shorten(wrong, 60)}, expected {sorted(leaves)}')
    sizes = dict(sizes)
    for name, leaf in leaves.items():
        array = arrays[name]
        if array.ndim == len(leaf.axes):
            pairs = zip(leaf.axes, array.shape, strict=True)
            sizes = {axis: size for axis, size in pairs if axis.isalpha()} | sizes
        expected = tuple(_size(axis, sizes) for axis in leaf.axes)
        if array.shape != expected or array.dtype.kind != leaf.kind:
            dtype = {'f': 'floating-point numbers', 'i': 'integers', 'b': 'truth values'}[leaf.kind]
            raise InputError(
                f'{path}: {name} is {array.dtype.name}{list(array.shape)}, expected {dtype} of '
                f'shape [{", ".join(leaf.axes)}] = {list(expected)}'
            )
        _check_values(path, name, array, leaf, sizes)
    return sizes


def _size(axis: str, sizes: Sizes) -> int | str:
    """Returns the size of an axis, or the axis itself where its letter is not known."""
    if axis.isdigit():
        return int(axis)
    if axis in sizes:
        return sizes[axis]
    match = _AXIS.fullmatch(axis)
    if match is None:
        raise ValueError(f'axis {axis!r}: expected a letter with a factor and a term')
    factor, letter, term = match.groups()
    return int(factor or 1) * sizes[letter] + int(term or 0) if letter in sizes else axis


def _check_values(
    path: pathlib.Path, name: str, array: np.ndarray, leaf: Leaf, sizes: Sizes
) -> None:
    """Refuses numbers that are not finite, and indices of nothing."""
    if leaf.kind == 'f':
        is_right = np.isfinite(array)
        if 'inf' in leaf.strange:
            is_right |= np.isposinf(array)
        if 'nan' in leaf.strange:
            is_right |= np.isnan(array)
        if not is_right.all():
            raise InputError(f'{path}: {name} holds NaN or infinity, expected finite numbers')
    elif leaf.below:
        last = sizes[leaf.below] + leaf.first - 1
        if array.size and not (leaf.first <= array.min() and array.max() <= last):
            raise InputError(
                f'{path}: {name} holds {array.min()} to {array.max()}, expected indices from '
                f'{leaf.first} to {last}'
            )
