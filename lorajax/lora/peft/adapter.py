"""An adapter as a user holds it: what its files say, and its numbers."""

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from lorajax import io
from lorajax.lora.config import LoraConfig
from lorajax.lora.peft.write import save_peft
from lorajax.types import Adapter


class PeftAdapter(NamedTuple):
    """Config and tree; `config, tree = load_peft(directory)` takes them apart.

    Attributes:
      config: rank, scale and the base model that the adapter belongs to.
      tree: {'layers': {'q_proj': {'a': float32[L, in, R], 'b': float32[L, R, out]}, ...}}.
    """

    config: LoraConfig
    tree: Adapter

    def save(self, directory: io.PathLike, dtype: DTypeLike | None = None) -> None:
        """Writes the adapter in PEFT format, for its own base model; see `save_peft`."""
        save_peft(directory, self.config, self.tree, dtype=dtype)

    def __repr__(self) -> str:
        layers = self.tree['layers']
        depth = max(np.shape(entry['a'])[0] for entry in layers.values())
        return (
            f'PeftAdapter(rank {self.config.rank}, alpha {self.config.alpha:g}, '
            f'{" ".join(layers)} of {depth} layers, for {self.config.base_model or "no base"})'
        )
