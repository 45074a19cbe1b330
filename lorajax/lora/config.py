"""What a LoRA adapter is made of, in the words of PEFT's `LoraConfig`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lorajax.lora import expressions

# The seven projections that can be adapted, in the order used everywhere.
TARGETS = ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj')


def module_name(projection: str, layer: int) -> str:
    """Returns the name that `transformers` gives a projection of a layer."""
    block = 'self_attn' if projection in TARGETS[:4] else 'mlp'
    return f'model.layers.{layer}.{block}.{projection}'


def pattern_expression(key: str) -> str:
    """Returns the expression by which PEFT matches a key of rank_pattern or alpha_pattern."""
    return rf'(.*\.)?({key})$'


def _lookup(pattern: Mapping[str, float], name: str, default: float) -> float:
    """Returns the value of the first key that matches a module name."""
    for key, value in pattern.items():
        if expressions.match(pattern_expression(key), name):
            return value
    return default


Module = tuple[str, int]  # projection, layer
Factor = tuple[str, int, str]  # projection, layer, 'A' or 'B'


@dataclasses.dataclass(frozen=True)
class PeftFile:
    """What an adapter's files in PEFT format say beyond the tree and `LoraConfig`.

    `load_peft` leaves it in the config so that `save_peft` can write the same files again.

    Attributes:
      settings: content of adapter_config.json.
      tensors: each factor's name in the file, and its numbers there: [R, in] of an 'A', [out, R]
        of a 'B' before its scale.
    """

    settings: Mapping[str, Any]
    tensors: Mapping[Factor, tuple[str, np.ndarray]]

    @property
    def modules(self) -> set[Module]:
        """The adapted modules."""
        return {(projection, layer) for projection, layer, _ in self.tensors}


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Hyper-parameters of an adapter.

    Attributes:
      rank: R, unless `rank_pattern` says otherwise.
      alpha: the update is scaled by alpha / rank (alpha / sqrt(rank) with rsLoRA).
      targets: the adapted projections, in `TARGETS` order.
      use_rslora: rank-stabilised scaling (Kalajdzievski 2023).
      rank_pattern: rank by pattern of module names.
      alpha_pattern: alpha by pattern of module names.
      layers: the adapted layers; None for all.
      dropout: of the training that made the adapter; kept for the record.
      base_model: name or path of the base model, if known, with the revision behind an @.
      file: what `load_peft` read; neither compared nor printed.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = TARGETS
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = dataclasses.field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    dropout: float = 0.0
    base_model: str | None = None
    file: PeftFile | None = dataclasses.field(default=None, compare=False, repr=False)

    def rank_of(self, projection: str, layer: int) -> int:
        """Returns the rank of one projection of one layer."""
        name = module_name(projection, layer)
        return int(_lookup(self.rank_pattern, name, self.rank))

    def scale_of(self, projection: str, layer: int) -> float:
        """Returns the factor between b a of the files and the change of the weight."""
        name = module_name(projection, layer)
        rank = self.rank_of(projection, layer)
        alpha = _lookup(self.alpha_pattern, name, self.alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank
