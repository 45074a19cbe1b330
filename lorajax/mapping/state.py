"""What a fitted mapping consists of: the same few parts for every method."""

import dataclasses
from typing import TypeVar

import numpy as np

from lorajax.errors import InputError
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.subspace import Frame, Tensors
from lorajax.types import Adapter, JsonDict

_Part = TypeVar('_Part')


@dataclasses.dataclass
class MappingState:
    """Everything that predicting needs, and what fitting found out.

    Attributes:
      tensors: projection and layer of each target tensor: the P axis.
      arrays: small arrays, by name.
      info: JSON-able diagnostics.
      per_tensor: arrays of each target tensor, by name; empty for methods without.
      source: anchors of the source, if queries are compared with them.
      target: anchors of the target, if predictions combine their factors.
      frame: bases of the target's anchors, if predictions combine their updates.
      source_frame: bases of the source's anchors, if queries are expressed in them.
      left_out: float64[P, A, A], row i the weights by which anchor i is predicted from the others;
        of a mapping that was just fitted, by a method that weighs anchors. It is not stored.
    """

    tensors: Tensors
    arrays: dict[str, np.ndarray]
    info: JsonDict
    per_tensor: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    source: Anchors | None = None
    target: Anchors | None = None
    frame: Frame | None = None
    source_frame: Frame | None = None
    left_out: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A translated adapter, and what is known about it (JSON-able)."""

    adapter: Adapter
    report: JsonDict


def require(part: _Part | None) -> _Part:
    """Returns a part of `MappingState` that the method at hand always stores.

    Raises:
      InputError: if it is not there: the state was read from files of another method.
    """
    if part is None:
        raise InputError(
            'the mapping lacks a part that its method keeps, expected the files as they were saved'
        )
    return part
