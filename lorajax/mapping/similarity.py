"""How alike two base models are, by what a user can compute without any adapter.

Two measures: the cosine of the base weights, for models of one shape, and linear CKA of what the
projections see on shared text, for any two models. docs/results.md has them beside what each way of
translating is worth (relatedness).
"""

from collections.abc import Mapping

import numpy as np

from lorajax.errors import InputError
from lorajax.mapping.layer_alignment import matching_layer


def weight_cosine(source: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray]) -> float:
    """Returns the mean cosine between equal kernels of two models.

    Args:
      source, target: projection -> float[L, in, out].

    Returns:
      Mean over projections and layers; NaN where the models have no kernel of one shape in common.

    Raises:
      InputError: if a model has no kernels.
    """
    if not source or not target:
        raise InputError('no kernels to compare, expected those of two models')
    cosines = []
    for projection in sorted(set(source) & set(target)):
        one, other = source[projection], target[projection]
        if one.shape != other.shape:
            continue
        for x, y in zip(one, other, strict=True):
            x, y = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
            norms = float(np.linalg.norm(x) * np.linalg.norm(y))
            cosines.append(float(x @ y) / max(norms, 1e-300))
    return float(np.mean(cosines)) if cosines else float('nan')


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the similarity of two representations of the same S things, from 0 to 1.

    Args:
      x, y: float[S, D] and float[S, E].

    Raises:
      InputError: unless both have the same number of rows, at least two.

    Source: Kornblith, Norouzi, Lee, Hinton 2019 (linear centred kernel alignment).
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise InputError(f'activations are {x.shape} and {y.shape}, expected [S, D] and [S, E]')
    x, y = (np.asarray(part, np.float64) - np.mean(part, 0, np.float64) for part in (x, y))
    cross, own, other = (np.sum((a.T @ b) ** 2) for a, b in ((x, y), (x, x), (y, y)))
    return float(cross / max(np.sqrt(own * other), 1e-300))


def activation_cka(source: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray]) -> float:
    """Returns `linear_cka` of what the projections of two models see, layers at equal depth.

    Args:
      source, target: projection -> float[L, S, features], at the same S places of the same texts.

    Returns:
      Mean over the common projections and the target's layers.

    Raises:
      InputError: if the models have no projection in common, or other places.
    """
    common = sorted(set(source) & set(target))
    if not common:
        raise InputError('the models have no projection in common')
    values = []
    for projection in common:
        one, other = source[projection], target[projection]
        for layer in range(len(other)):
            match = matching_layer(layer, len(other), len(one))
            values.append(linear_cka(one[match], other[layer]))
    return float(np.mean(values))
