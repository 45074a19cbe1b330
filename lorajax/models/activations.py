"""What every projection of a model sees and returns at some positions of some texts."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from lorajax import processes, sharding
from lorajax.models.model import Model
from lorajax.models.transformer import Transformer
from lorajax.types import Params

# Padded tokens in one forward pass. It holds what every projection of every layer sees and returns:
# at 3B size in bfloat16 about 4 MB a token (predicted).
_TOKENS_PER_STEP = 2048


class Activations(NamedTuple):
    """Activations of one model by projection, in the model's dtype.

    inputs: [L, S, in], what each projection sees; outputs: [L, S, out], what it returns.
    """

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def collect(
    model: Model,
    texts: Sequence[np.ndarray],
    positions: Sequence[np.ndarray],
    tokens_per_step: int = _TOKENS_PER_STEP,
) -> Activations:
    """Runs a model over texts and keeps the activations at some positions.

    Args:
      model: the base, without an adapter.
      texts: int32[T_i] token ids of each text.
      positions: int64[S_i] for each text, smaller than T_i.
      tokens_per_step: padded tokens in one forward pass; at least one text is taken.

    Returns:
      The activations at all positions, texts in order; S = sum of S_i. On the host: at 3B size
      about 4 MB for each position in bfloat16, inputs and outputs together.
    """
    length = max(len(text) for text in texts)
    count = max(1, min(tokens_per_step // length, len(texts)))
    num_rows = sharding.pad_rows(model.mesh, count)
    most = count * max(len(chosen) for chosen in positions)
    by_row = sharding.sharding(model.mesh, 'batch', None)
    parts = []
    for start in range(0, len(texts), count):
        batch, chosen = texts[start : start + count], positions[start : start + count]
        tokens = np.zeros((num_rows, length), np.int32)
        mask = np.zeros((num_rows, length), np.int32)
        for row, text in enumerate(batch):
            tokens[row, : len(text)] = text
            mask[row, : len(text)] = 1
        rows = np.repeat(np.arange(len(chosen)), [len(row) for row in chosen])
        columns = np.concatenate(chosen)
        # One shape for all batches: what is added is cut off again.
        padding = (0, most - len(rows))
        states = _forward(
            model.module, model.params, processes.place(tokens, by_row),
            processes.place(mask, by_row), np.pad(rows, padding), np.pad(columns, padding),
        )  # fmt: skip
        parts.append(jax.tree.map(functools.partial(_first, count=len(rows)), states))
    whole = jax.tree.map(lambda *pieces: np.concatenate(pieces, axis=1), *parts)
    return Activations(
        {name: values['inputs'] for name, values in whole.items()},
        {name: values['outputs'] for name, values in whole.items()},
    )


@functools.partial(jax.jit, static_argnames=('module',))
def _forward(
    module: Transformer,
    params: Params,
    tokens: jax.Array,
    segment_ids: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
) -> dict[str, dict[str, jax.Array]]:
    """Returns what every projection sees and returns at positions [S] of a batch [B, T]."""
    _, sown = module.apply({'params': params}, tokens, segment_ids, mutable=['intermediates'])
    layers = sown['intermediates']['layers']
    return {
        name: {kind: values[kind][0][:, rows, columns] for kind in ('inputs', 'outputs')}
        for name, values in layers.items()
    }


def _first(states: jax.Array, count: int) -> np.ndarray:
    """Returns the first positions of [L, S, features] on the host."""
    return processes.to_host(states)[:, :count]
