"""What a caller of `fit` may set."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from lorajax.errors import InputError

_COUNTS = (
    'top_k',
    'output_rank',
    'base_rank',
    'basis_rank',
    'source_layers',
    'bilinear_sweeps',
    'bilinear_starts',
    'bilinear_folds',
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Numbers; each method uses what concerns it.

    Attributes:
      ridge_lambda: penalty > 0, on the scale of the method's kernel (scikit-learn's alpha);
        None chooses it by leave-one-out on the anchors.
      top_k: number of nearest anchors for `topk_*` methods whose name states none.
      output_rank: rank of predicted adapters; None takes the target anchors' rank.
      seed: for methods that draw random numbers.
      base_rank: truncation of base weights in `cross_lora` and `lora_x`.
      min_similarity: of subspaces, below which `lora_x` skips a tensor.
      basis_rank: directions of the anchors' updates that bilinear maps act on, on each side of
        each tensor.
      source_layers: source layers that the bilinear map of a target layer looks at.
      bilinear_penalty: relative to the mean diagonal of each normal matrix.
      bilinear_sweeps, bilinear_starts: alternations, and random starts that are averaged.
      bilinear_folds: groups of anchors left out in turn to score bilinear maps.
      state_penalty: of `activation_ridge`, relative to the mean squared singular value.
    """

    ridge_lambda: float | None = None
    top_k: int = 8
    output_rank: int | None = None
    seed: int = 0
    base_rank: int = 320
    min_similarity: float = 0.1
    basis_rank: int = 64
    source_layers: int = 4
    bilinear_penalty: float = 2.0
    bilinear_sweeps: int = 6
    bilinear_starts: int = 4
    bilinear_folds: int = 4
    state_penalty: float = 0.1

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.ridge_lambda is not None:
            self._check_positive('ridge_lambda')
        self._check_positive('state_penalty')
        self._check_positive('bilinear_penalty')
        for name in _COUNTS:
            value, least = getattr(self, name), 2 if name == 'bilinear_folds' else 1
            if value is not None and (not isinstance(value, int) or value < least):
                raise InputError(f'{name}={value!r}: expected an integer >= {least}')

    def _check_positive(self, name: str) -> None:
        value = getattr(self, name)
        if not 0 < value < np.inf:
            raise InputError(f'{name}={value}: expected a number > 0')


@dataclasses.dataclass(frozen=True)
class Extras:
    """Arrays of the two base models, projection -> array-like with layers first.

    Attributes:
      source_weights, target_weights: kernels [L, in, out].
      source_inputs, target_inputs: what each projection sees, [L, S, in], at S positions of
        text that both models read; the positions correspond.
      source_outputs, target_outputs: what each projection returns there, [L, S, out].
    """

    source_weights: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    target_weights: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source_inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    target_inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source_outputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    target_outputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def parse(given: Mapping[str, Any]) -> tuple[Options, Extras]:
    """Sorts keyword arguments into `Options` and `Extras`; refuses unknown names."""
    numbers = {field.name for field in dataclasses.fields(Options)}
    arrays = {field.name for field in dataclasses.fields(Extras)}
    for name in given:
        if name not in numbers | arrays:
            _refuse(name, sorted(numbers | arrays))
    return (
        Options(**{name: value for name, value in given.items() if name in numbers}),
        Extras(**{name: value for name, value in given.items() if name in arrays}),
    )


def _refuse(name: str, known: list[str]) -> NoReturn:
    """Raises `InputError` for an unknown option; suggests the closest name."""
    close = difflib.get_close_matches(name, known, 1)
    hint = f'did you mean {close[0]!r}?' if close else f'expected one of {known}'
    raise InputError(f'unknown mapping option {name!r}: {hint}')
