"""How strongly adapters respond to a prompt, which tells prompts of their kind from others.

An update B A was trained on inputs of one kind, so its rows lie where such inputs lie, and it turns
them into more than inputs of another kind. The share |B A x|^2 / |B A|^2 needs the base model's
inputs x to a prompt, no answer and no label. It is worth something beside those of other adapters
for the same prompt alone: prompts differ, too. Lower layers tell little, as they see words and not
what is asked for, and so do queries, keys and values (docs/results.md).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lorajax.models import Model, activations
from lorajax.types import Adapter, Array

# Where kinds differ most; of adapters of other projections all are looked at.
_TELLING = ('o_proj', 'gate_proj', 'up_proj')
_PLACES = 16  # of a prompt, at most
_TOGETHER = 256  # positions in memory at once: 1 GB at 3B size in bfloat16 (predicted)


def energies(
    model: Model, adapters: Mapping[str, Adapter], prompts: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Measures what adapters' updates make of the inputs of a base model.

    Args:
      model: the base that the adapters belong to.
      adapters: by name; ranks and projections may differ.
      prompts: N of them, int32[T_i] tokens, T_i >= 1; at most 16 places of each are looked at.

    Returns:
      By name float64[L, N, P], the mean over positions of log(|B A x|^2 / |B A|^2) for the upper L
      layers and P projections: o, gate and up where every adapter adapts one of them, otherwise
      all of the model's. NaN where the adapter changes nothing.
    """
    places = [_spread(len(prompt)) for prompt in prompts]
    is_telling = all(any(p in a['layers'] for p in _TELLING) for a in adapters.values())
    projections = [p for p in model.config.projections if p in _TELLING or not is_telling]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in adapters}
    for some in _groups([len(chosen) for chosen in places]):
        inputs = activations.collect(
            model, [prompts[i] for i in some], [places[i] for i in some]
        ).inputs
        starts = np.cumsum([0, *(len(places[i]) for i in some[:-1])])
        for name, adapter in adapters.items():
            parts[name].append(_logs(adapter, inputs, starts, projections))
    return {name: np.concatenate(found, axis=1) for name, found in parts.items()}


def relative(found: Mapping[str, np.ndarray], among: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns how much more strongly each adapter responds than some of them do on average.

    Args:
      found: what `energies` returns.
      among: names of those that are compared with.

    Returns:
      By name float64[N], the mean over layers and projections that the adapter and any of the
      others change of the difference of logarithms; 0 if there are none.
    """
    if not among:
        return {name: np.zeros(energy.shape[1]) for name, energy in found.items()}
    level = _mean(np.stack([found[name] for name in among]), axis=0)
    return {name: np.nan_to_num(_mean(e - level, axis=(0, 2))) for name, e in found.items()}


def _logs(
    adapter: Adapter,
    inputs: Mapping[str, np.ndarray],
    starts: np.ndarray,
    projections: Sequence[str],
) -> np.ndarray:
    """Returns float64[L, prompts, P]; see `energies`."""
    columns = []
    for name in projections:
        seen = inputs[name]
        upper = slice(len(seen) // 2, None)
        shape = len(seen) - upper.start, len(starts)
        if name not in adapter['layers']:
            columns.append(np.full(shape, np.nan))
            continue
        a, b = (_float32(adapter['layers'][name][factor])[upper] for factor in ('a', 'b'))
        hidden = _float32(seen[upper]) @ a  # L S R
        between = b @ b.swapaxes(-1, -2)  # L R R
        energy = ((hidden @ between) * hidden).sum(-1, dtype=np.float64)
        lengths = np.diff([*starts, energy.shape[1]])
        size = ((a.swapaxes(-1, -2) @ a) * between).sum((-2, -1), dtype=np.float64)
        with np.errstate(divide='ignore', invalid='ignore'):
            share = np.add.reduceat(energy, starts, axis=1) / lengths / size[:, None]
            columns.append(np.where(share > 0, np.log(share), np.nan))
    return np.stack(columns, axis=-1)


def _mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Returns the mean of what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def _spread(length: int) -> np.ndarray:
    """Returns at most `_PLACES` positions of a text, evenly spread, the last one among them."""
    return np.unique(np.linspace(length - 1, 0, min(length, _PLACES)).round().astype(np.int64))


def _groups(sizes: Sequence[int]) -> list[list[int]]:
    """Cuts indices into runs of at most `_TOGETHER` positions, and one text at least."""
    groups: list[list[int]] = []
    filled = _TOGETHER
    for index, size in enumerate(sizes):
        if filled + size > _TOGETHER:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += size
    return groups


def _float32(array: Array) -> np.ndarray:
    return np.asarray(array).astype(np.float32)
