"""What a caller of `fit` may set."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, NoReturn

from lorajax import io
from lorajax.errors import ArgumentError, InputError
from lorajax.io import fields

_NONE = fields.Kind('none', lambda value: value is None)
_KINDS = {
    'ridge_lambda': fields.either(fields.POSITIVE, _NONE),
    'top_k': fields.COUNT,
    'output_rank': fields.either(fields.COUNT, _NONE),
    'seed': fields.INTEGER,
    'base_rank': fields.COUNT,
    'min_similarity': fields.NUMBER,
    'sign': fields.one_of('largest', 'activations'),
    'basis_rank': fields.COUNT,
    'source_layers': fields.COUNT,
    'bilinear_penalty': fields.POSITIVE,
    'bilinear_sweeps': fields.COUNT,
    'bilinear_starts': fields.COUNT,
    'bilinear_folds': fields.Kind(
        'an integer of at least 2', lambda value: fields.COUNT.fits(value) and value >= 2
    ),
    'state_penalty': fields.POSITIVE,
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Numbers; each method uses what concerns it.

    Attributes:
      ridge_lambda: penalty > 0, added to the diagonal of the method's kernel (scikit-learn's
        alpha); None leaves it to the method, which chooses by leave-one-out or has one of its
        own. Diagnostics give it both as it is and over the kernel's mean diagonal.
      top_k: number of nearest anchors for `topk_*` methods whose name states none.
      output_rank: rank of predicted adapters; None takes the target anchors' rank.
      seed: for methods that draw random numbers.
      base_rank: truncation of base weights in `cross_lora` and `lora_x`.
      min_similarity: of subspaces, below which `lora_x` skips a tensor.
      sign: how `cross_lora` signs pairs of singular vectors: 'largest', by the entry of largest
        magnitude, or 'activations', so that both models' states correlate along them.
      basis_rank: directions of the anchors' updates that bilinear maps act on, on each side of
        each tensor; nothing is lost if it is the ranks of all anchors together.
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
    sign: str = 'largest'
    basis_rank: int = 64
    source_layers: int = 4
    bilinear_penalty: float = 2.0
    bilinear_sweeps: int = 6
    bilinear_starts: int = 4
    bilinear_folds: int = 4
    state_penalty: float = 0.1

    def __post_init__(self) -> None:
        """Checks types and ranges."""
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not kind.fits(value):
                raise ArgumentError(name, io.show(value), f'expected {kind.words}')


@dataclasses.dataclass(frozen=True)
class BaseModelArrays:
    """Arrays of the two base models, projection -> array-like with layers first.

    Attributes:
      source_weights, target_weights: kernels [L, in, out], as factors a and b are laid out; files
        and `lorajax.models` have them as [L, out, in].
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


def parse(given: Mapping[str, Any]) -> tuple[Options, BaseModelArrays]:
    """Sorts keyword arguments into options and arrays.

    Raises:
      InputError: on a name that is neither; suggests the closest.
    """
    numbers = {field.name for field in dataclasses.fields(Options)}
    arrays = {field.name for field in dataclasses.fields(BaseModelArrays)}
    for name in given:
        if name not in numbers | arrays:
            _refuse(name, sorted(numbers | arrays))
    return (
        Options(**{name: value for name, value in given.items() if name in numbers}),
        BaseModelArrays(**{name: value for name, value in given.items() if name in arrays}),
    )


def _refuse(name: str, known: list[str]) -> NoReturn:
    """Raises `InputError` for an unknown option; suggests the closest name."""
    close = difflib.get_close_matches(name, known, 1)
    hint = f'did you mean {close[0]!r}?' if close else f'expected one of {known}'
    raise InputError(f'unknown mapping option {name!r}: {hint}')
