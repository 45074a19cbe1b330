"""Shapes of adapters: read from a tree, compared, and tensors taken out of it.

An adapter's leaves may be numpy memory maps, or any object with a `shape` and first-axis
indexing: a mapping reads them one layer of one projection at a time.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lorajax.errors import InputError
from lorajax.io.reading import shorten
from lorajax.lora.config import TARGETS
from lorajax.types import Adapter


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of one projection's factors: a is [layers, n_in, rank], b [layers, rank, n_out]."""

    layers: int
    n_in: int
    rank: int
    n_out: int

    def __str__(self) -> str:
        return f'{self.layers} layers of {self.n_in} to {self.n_out}, rank {self.rank}'


Shapes = Mapping[str, Shape]  # by projection, in the order of `TARGETS`


def read_shapes(adapter: Adapter, name: str) -> dict[str, Shape]:
    """Returns the shape of every projection of an adapter, in the order of `TARGETS`.

    Args:
      adapter: an adapter tree; leaves need only a `shape`.
      name: what to call the adapter in messages.

    Raises:
      InputError: if the tree is not an adapter or the shapes of a pair of factors disagree.
    """
    layers = adapter.get('layers') if isinstance(adapter, Mapping) else None
    if not isinstance(layers, Mapping) or not layers:
        raise InputError(f"{name}: expected an adapter tree {{'layers': {{projection: ...}}}}")
    for projection in layers:
        if projection not in TARGETS:
            close = difflib.get_close_matches(str(projection), TARGETS, 1)
            hint = f'; did you mean {close[0]}?' if close else ''
            raise InputError(f'{name}: unknown projection {shorten(repr(projection), 60)}{hint}')
    return {p: _read_shape(layers[p], f'{name}: {p}') for p in TARGETS if p in layers}


def _read_shape(factors: Any, name: str) -> Shape:
    """Shape of one projection; refuses factors that cannot be multiplied layer by layer."""
    if not isinstance(factors, Mapping) or set(factors) != {'a', 'b'}:
        raise InputError(f"{name}: expected the two factors 'a' and 'b'")
    a, b = (tuple(getattr(factors[key], 'shape', ())) for key in 'ab')
    if len(a) != 3 or len(b) != 3 or a[0] != b[0] or a[2] != b[1] or 0 in a + b:
        raise InputError(f'{name}: expected a [L, in, R] and b [L, R, out], got {a} and {b}')
    return Shape(layers=a[0], n_in=a[1], rank=a[2], n_out=b[2])


def check_matches(shapes: Shapes, expected: Shapes, name: str, any_rank: bool) -> None:
    """Raises `InputError` if an adapter does not have the expected projections and shapes.

    Args:
      shapes: of the adapter.
      expected: of the anchors.
      name: what to call the adapter in messages.
      any_rank: accept another rank, for methods that see only the product of the factors.
    """
    if set(shapes) != set(expected):
        raise InputError(
            f'{name}: adapts {", ".join(shapes)}, the anchors {", ".join(expected)}; expected the '
            'same projections'
        )
    for projection, want in expected.items():
        got = shapes[projection]
        if any_rank:
            got = dataclasses.replace(got, rank=want.rank)
        if got != want:
            raise InputError(f'{name}: {projection}: has {shapes[projection]}, expected {want}')


def widest(shapes: Iterable[Shapes]) -> dict[str, Shape]:
    """Returns the shapes of adapters that differ in rank alone, with the largest rank of each."""
    result: dict[str, Shape] = {}
    for one in shapes:
        for projection, shape in one.items():
            known = result.get(projection, shape)
            result[projection] = dataclasses.replace(known, rank=max(known.rank, shape.rank))
    return result


def read_layer(
    adapter: Adapter, projection: str, layer: int, rank: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the factors of one tensor: float32[in, R] and float32[R, out].

    Args:
      adapter: the tree.
      projection, layer: the tensor.
      rank: widens the factors with zeros, which leaves their product as it is.
    """
    factors = adapter['layers'][projection]
    a, b = (np.asarray(factors[key][layer], np.float32) for key in 'ab')
    missing = 0 if rank is None else rank - a.shape[1]
    if missing:
        a, b = np.pad(a, ((0, 0), (0, missing))), np.pad(b, ((0, missing), (0, 0)))
    return a, b


def not_finite(projection: str, layer: int) -> str:
    """Returns the message for a tensor whose inner products are not finite."""
    return (
        f'{projection} layer {layer} holds NaN, infinity or values whose square overflows '
        'float32; expected finite numbers'
    )
