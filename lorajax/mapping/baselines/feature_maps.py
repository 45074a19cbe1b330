"""Linear maps from the features of one model to those of another, in factored form.

They come from base weights (Cross-LoRA, LoRA-X), from activations on shared text (Theseus,
ridge), or from nothing at all (pad and truncate).

Axes: S positions of shared text, D columns of a factored map.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from lorajax.mapping.gram import einsum
from lorajax.mapping.subspace import signed
from lorajax.types import Array


class FeatureMap(NamedTuple):
    """A linear map from source to target features in factored form, left @ right.T."""

    left: Array  # float32[target features, D]
    right: Array  # float32[source features, D]


def cross_lora(source: Array, target: Array, rank: int) -> tuple[FeatureMap, FeatureMap]:
    """Maps between the leading singular subspaces of two base weights.

    The paper's alignment, U_t U_s^T and V_t V_s^T, pairs singular vectors by their order, and
    each pair is defined only up to a joint sign: the paper states no rule. Here the entry of
    largest magnitude of each output-side vector is positive (the paper's U, as its W is [out, in]).

    Args:
      source, target: float32[in, out] kernels of one projection.
      rank: of the truncation, 320 in the paper; less where a kernel is smaller.

    Returns:
      The maps of inputs and of outputs.

    Source: Cross-LoRA (arXiv 2508.05232), section 3.
    """
    chex.assert_rank([source, target], 2)
    rank = min(rank, *source.shape, *target.shape)
    u_s, v_s = _leading_vectors(source, rank)
    u_t, v_t = _leading_vectors(target, rank)
    return FeatureMap(u_t, u_s), FeatureMap(v_t, v_s)


def signed_by_states(features: FeatureMap, source: Array, target: Array) -> FeatureMap:
    """Flips pairs of columns along which states of the two models point apart.

    Args:
      features: pairs a target direction with a source direction in each column.
      source, target: float32[S, features], states of the same S positions of shared text.
    """
    chex.assert_shape([source, target], (len(source), None))
    agreement = np.sum((source @ features.right) * (target @ features.left), axis=0)
    return features._replace(left=features.left * np.where(agreement < 0, -1.0, 1.0))


def lora_x(
    source: Array, target: Array, rank: int, min_similarity: float
) -> tuple[FeatureMap, FeatureMap]:
    """Projects onto the target's leading subspaces where widths agree, else as `cross_lora`.

    A side of equal width keeps the update's own coordinates: U_t U_t^T. A tensor whose
    subspaces of equal width are less similar than `min_similarity`, |U_s^T U_t|^2 / rank, is
    skipped: its maps are zero.

    Source: LoRA-X (arXiv 2501.16559), equations 4 to 6.
    """
    aligned = cross_lora(source, target, rank)
    projected = []
    for left, right in aligned:
        if left.shape == right.shape:
            similarity = float(jnp.sum(einsum('ir,is->rs', left, right) ** 2)) / left.shape[1]
            left = left if similarity >= min_similarity else 0.0 * left
            right = left
        projected.append(FeatureMap(left, right))
    inner, outer = projected
    return inner, outer


def procrustes(source: Array, target: Array) -> FeatureMap:
    """Maps by the partial isometry nearest to carrying source states onto target states.

    With the polar factor of H_t^T H_s, that is U V^T of its singular value decomposition.

    Args:
      source, target: float32[S, features], states of the same S positions of shared text.

    Source: Schoenemann 1966; Theseus (arXiv 2602.12952) uses it for adapters.
    """
    chex.assert_shape([source, target], (len(source), None))
    q_s, r_s = jnp.linalg.qr(jnp.asarray(source).T)
    q_t, r_t = jnp.linalg.qr(jnp.asarray(target).T)
    u, s, vt = jnp.linalg.svd(einsum('ms,ns->mn', r_t, r_s), full_matrices=False)
    is_used = s > 1e-6 * s[0]
    return FeatureMap(
        einsum('im,md->id', q_t, u * is_used),
        einsum('in,dn->id', q_s, vt),
    )


def state_ridge(explained: Array, regressors: Array, penalty: float) -> tuple[Array, Array]:
    """Ridge regression of states on states in factored form: explained ~ regressors @ p @ q.T.

    Args:
      explained: float32[S, E].
      regressors: float32[S, G].
      penalty: relative to the mean squared singular value of `regressors`.

    Returns:
      p float32[G, D] and q float32[E, D].
    """
    chex.assert_shape([explained, regressors], (len(regressors), None))
    u, s, vt = jnp.linalg.svd(regressors, full_matrices=False)
    shrunk = s / (s**2 + penalty * jnp.mean(s**2))
    return vt.T * shrunk, einsum('se,sd->ed', explained, u)


def pad_or_cut(shape_x: int, shape_y: int) -> FeatureMap:
    """Keeps the first features and pads with zeros, scaled by (n_x / n_y)^(1/4).

    Both sides together scale the update by (in_x out_x / (in_y out_y))^(1/4).

    Source: the idea of github.com/hamehrabi/ual_adapter.
    """
    common = min(shape_x, shape_y)
    scale = (shape_x / shape_y) ** 0.25
    return FeatureMap(
        scale * np.eye(shape_y, common, dtype=np.float32), np.eye(shape_x, common, dtype=np.float32)
    )


def _leading_vectors(kernel: Array, rank: int) -> tuple[Array, Array]:
    """Leading singular vectors float32[in, rank] and float32[out, rank], signs fixed."""
    u, _, vt = jnp.linalg.svd(jnp.asarray(kernel, jnp.float32), full_matrices=False)
    v, signs = signed(np.asarray(vt[:rank].T))
    return u[:, :rank] * signs, v
