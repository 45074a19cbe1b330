"""What users pass to a model, checked before anything is compiled for it."""

from typing import Any

import jax
import numpy as np

from lorajax.errors import InputError
from lorajax.lora import PeftAdapter
from lorajax.models.config import ModelConfig
from lorajax.types import Adapter, Array


def check_adapter(config: ModelConfig, adapter: Adapter | PeftAdapter | None) -> Adapter | None:
    """Returns the tree of an adapter; None for one that adapts nothing.

    Args:
      config: of the base.
      adapter: a tree of factors, possibly stacked on A, or what `lora.load_peft` returns.

    Raises:
      InputError: if it is neither, or does not fit the base.
    """
    if isinstance(adapter, PeftAdapter):
        adapter = adapter.tree
    if adapter is not None and not isinstance(adapter, dict):
        raise InputError(
            f'adapter: is a {type(adapter).__name__}, expected a tree of factors or what '
            'lorajax.lora.load_peft returns'
        )
    layers = (adapter or {}).get('layers') or {}
    for name, entry in layers.items():
        if name not in config.projections:
            raise InputError(
                f'adapter: unknown projection {name!r}, expected some of '
                f'{", ".join(config.projections)}'
            )
        fan_in, fan_out = config.projections[name]
        a, b = np.shape(entry['a'])[-3:], np.shape(entry['b'])[-3:]
        depth = config.num_layers
        if a[:2] != (depth, fan_in) or b != (depth, a[-1], fan_out):
            raise InputError(
                f'adapter: {name} has factors {a} and {b}, expected '
                f'({depth}, {fan_in}, R) and ({depth}, R, {fan_out})'
            )
    return adapter if layers else None


def check_mask(shape: tuple[int, ...], mask: Any) -> None:
    """Refuses an attention mask that is not one number for each token.

    Args:
      shape: of the tokens.
      mask: of whoever calls.

    Raises:
      InputError: naming both shapes.
    """
    if np.shape(mask) != shape:
        raise InputError(
            f'attention_mask: has shape {np.shape(mask)}, the tokens {shape}; expected the same'
        )


def check_tokens(vocab_size: int, tokens: Any) -> Array:
    """Returns rows of tokens as an array; one of JAX is taken as it is.

    Args:
      vocab_size: V.
      tokens: int[B, T] or int[A, B, T]. An id outside of the vocabulary would be taken for the
        nearest within.

    Raises:
      InputError: if they are no such rows, or hold an id that is not from 0 to V - 1.
    """
    try:
        found = tokens if isinstance(tokens, jax.Array) else np.asarray(tokens)
    except ValueError:
        raise InputError('tokens: rows differ in length, expected them padded') from None
    if found.ndim not in (2, 3) or np.dtype(found.dtype).kind not in 'iu' or not found.shape[-1]:
        raise InputError(f'tokens: are {found.dtype}{list(found.shape)}, expected int32[B, T]')
    if isinstance(found, jax.Array):  # to look into it would wait for it
        return found
    if found.size and not 0 <= found.min() <= found.max() < vocab_size:
        raise InputError(
            f'tokens: hold {found.min()} to {found.max()}, expected 0 to {vocab_size - 1}'
        )
    return found
