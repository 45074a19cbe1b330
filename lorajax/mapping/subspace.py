"""Sums of low-rank updates and their truncation, exactly, by QR and a small SVD.

A weighted sum of A updates of rank R has rank up to A R. In orthonormal bases of all anchors'
factors, a_cat = Q_in R_in and b_cat^T = Q_out R_out, it is Q_in C Q_out^T with a core matrix C of
at most A R x A R, whatever the widths of the model. The bases are computed once; a prediction
then costs one small SVD per tensor. The idea is that of Core Space (arXiv 2509.17786).
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lorajax.mapping.compiling import quick_jit
from lorajax.mapping.gram import einsum, side_by_side
from lorajax.types import Adapter, Array

Tensors = list[tuple[str, int]]  # projection and layer of each tensor


class Basis(NamedTuple):
    """One tensor's anchors in orthonormal bases: a_t = q_in @ a[t], b_t = b[t] @ q_out.T."""

    q_in: Array  # float32[in, M], M = min(in, A R)
    q_out: Array  # float32[out, N], N = min(out, A R)
    a: Array  # float32[A, M, R]
    b: Array  # float32[A, R, N]


@dataclasses.dataclass(frozen=True)
class Frame:
    """The bases of all tensors, in the order of `anchors.Anchors.tensors`."""

    tensors: Tensors
    bases: list[Basis]


def orthonormal_bases(a: np.ndarray, b: np.ndarray) -> Basis:
    """Returns the bases of one tensor from float32[A, in, R] and float32[A, R, out]."""
    anchors, _, rank = a.shape
    chex.assert_shape(b, (anchors, rank, None))
    q_in, r_in = _thin_qr(side_by_side(a))
    q_out, r_out = _thin_qr(b.reshape(anchors * rank, -1).T)
    core_a = r_in.reshape(-1, anchors, rank).transpose(1, 0, 2)
    core_b = r_out.T.reshape(anchors, rank, -1)
    return Basis(q_in, q_out, core_a, core_b)


# One program for each width of the model, where one for each pair of widths would be more.
_thin_qr = jax.jit(jnp.linalg.qr)


def reduce_basis(basis: Basis, rank: int) -> tuple[Basis, float]:
    """Keeps the leading directions of the anchors' updates, at most `rank` on each side.

    Args:
      basis: of one tensor.
      rank: directions to keep; enough of them lose nothing.

    Returns:
      A basis with q_in [in, <= rank] and q_out [out, <= rank], and the share of the anchors'
      squared norm that it loses.

    Source: De Lathauwer, De Moor, Vandewalle 2000 (truncated higher-order SVD).
    """
    reduced, lost = _reduce_basis(basis, rank)
    return reduced, float(lost)


@quick_jit(static_argnums=1)
def _reduce_basis(basis: Basis, rank: int) -> tuple[Basis, jax.Array]:
    """`reduce_basis` as one compiled function."""
    inner = einsum('amr,amq->arq', basis.a, basis.a)
    outer = einsum('arn,aqn->arq', basis.b, basis.b)
    u_in = _leading_directions(einsum('amr,arq,anq->mn', basis.a, outer, basis.a), rank)
    u_out = _leading_directions(einsum('arm,arq,aqn->mn', basis.b, inner, basis.b), rank)
    q_in, sign_in = signed(einsum('im,mr->ir', basis.q_in, u_in))
    q_out, sign_out = signed(einsum('on,nr->or', basis.q_out, u_out))
    a = einsum('amr,mi->air', basis.a, u_in * sign_in)
    b = einsum('arn,nj->arj', basis.b, u_out * sign_out)
    kept = jnp.sum(einsum('air,aiq->arq', a, a) * einsum('arj,aqj->arq', b, b))
    whole = jnp.sum(inner * outer)
    lost = jnp.where(whole > 0, 1.0 - kept / jnp.where(whole > 0, whole, 1.0), 0.0)
    return Basis(q_in, q_out, a, b), lost


def _leading_directions(moment: jax.Array, rank: int) -> jax.Array:
    """Leading eigenvectors float32[M, rank]; zero where the eigenvalue is rounding error."""
    values, vectors = jnp.linalg.eigh(moment)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    return jnp.where(values > 1e-6 * values[0], vectors, 0.0)


def signed(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Signs columns so that the entry of largest magnitude is positive; also the signs.

    Args:
      vectors: float32[..., n, R].

    Returns:
      The signed columns, and float32[..., R] of 1 and -1.
    """
    rows = jnp.argmax(jnp.abs(vectors), axis=-2)[..., None, :]
    largest = jnp.take_along_axis(vectors, rows, axis=-2)[..., 0, :]
    signs = jnp.where(largest < 0, -1.0, 1.0)
    return vectors * signs[..., None, :], signs


@jax.jit
def weighted_core(a: Array, b: Array, weights: Array) -> jax.Array:
    """Returns sum_t weights[..., t] a[t] @ b[t] as float32[..., M, N].

    Args:
      a, b: float32[A, M, R] and float32[A, R, N].
      weights: float32[..., A].
    """
    chex.assert_rank([a, b], 3)
    chex.assert_equal([a.shape[0], a.shape[2]], [b.shape[0], b.shape[1]])
    chex.assert_equal(weights.shape[-1], a.shape[0])
    return einsum('amr,...a,arn->...mn', a, weights, b)


class Truncated(NamedTuple):
    """The best factors of some updates of one tensor, in a fixed gauge.

    Both factors carry the square root of the singular values; each singular vector of the input
    side is signed so that its entry of largest magnitude is positive.
    """

    a: np.ndarray  # float32[..., in, rank]
    b: np.ndarray  # float32[..., rank, out]
    energy: np.ndarray  # float64[..., 2], squared Frobenius norm of the result and of the whole


def leading_factors(core: Array, q_in: Array, q_out: Array, rank: int) -> Truncated:
    """Returns the best rank-`rank` factors of Q_in C Q_out^T.

    Args:
      core: float32[..., M, N].
      q_in, q_out: float32[in, M] and float32[out, N], orthonormal columns.
      rank: of the result; beyond min(M, N) the factors are padded with zeros.

    Source: Eckart and Young 1936.
    """
    chex.assert_shape([q_in, q_out], [(None, core.shape[-2]), (None, core.shape[-1])])
    return _in_full_space(_core_svd(core), q_in, q_out, rank)


@jax.jit
def _core_svd(core: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Thin singular value decomposition of float32[..., M, N]."""
    u, s, vt = jnp.linalg.svd(core, full_matrices=False)
    return u, s, vt


@quick_jit()
def _weighted_svd(a: Array, b: Array, weights: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`_core_svd` of `weighted_core`."""
    return _core_svd(weighted_core(a, b, weights))


def _in_full_space(
    decomposed: tuple[Array, Array, Array], q_in: Array, q_out: Array, rank: int
) -> Truncated:
    """Turns the decomposition of a core into factors of the model's widths, on the host."""
    u, s, vt = (np.asarray(part) for part in decomposed)
    kept = min(rank, s.shape[-1])
    a = np.asarray(q_in, np.float32) @ u[..., :kept]
    b = vt[..., :kept, :] @ np.asarray(q_out, np.float32).swapaxes(-1, -2)
    rows = np.abs(a).argmax(-2)[..., None, :]
    root = np.sqrt(s[..., :kept])
    signs = np.where(np.take_along_axis(a, rows, -2)[..., 0, :] < 0, -root, root)
    squares = s.astype(np.float64) ** 2
    energy = np.stack([squares[..., :kept].sum(-1), squares.sum(-1)], -1)
    a, b = a * signs[..., None, :], b * signs[..., None]
    missing = rank - kept
    if missing:
        a, b = (
            np.pad(factor, [(0, 0)] * (factor.ndim - 2) + widths)
            for factor, widths in ((a, [(0, 0), (0, missing)]), (b, [(0, missing), (0, 0)]))
        )
    return Truncated(a, b, energy)


@jax.jit
def _product_svd(
    a: Array, b: Array
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array, jax.Array]:
    """`_core_svd` of products a @ b, and orthonormal bases of both sides; C on the first axis."""
    q_in, r_in = jnp.linalg.qr(a)
    q_out, r_out = jnp.linalg.qr(b.swapaxes(1, 2))
    return _core_svd(einsum('cmr,cnr->cmn', r_in, r_out)), q_in, q_out


def with_rank(a: Array, b: Array, rank: int) -> Truncated:
    """Returns factors of another rank for products a @ b.

    Args:
      a, b: float32[C, in, R] and float32[C, R, out].
      rank: > 0; at rank >= R the products are unchanged.
    """
    chex.assert_rank([a, b], 3)
    decomposed, q_in, q_out = _product_svd(a, b)
    return _in_full_space(decomposed, q_in, np.asarray(q_out), rank)


def combine_updates(frame: Frame, weights: np.ndarray, rank: int) -> list[tuple[Adapter, float]]:
    """Returns the best rank-`rank` adapters of weighted sums of the anchors' updates.

    Args:
      frame: bases of the anchors.
      weights: float64[C, P, A], one row per result and tensor.
      rank: of the results.

    Returns:
      C pairs: the adapter, and the share of the sum's squared norm that truncation lost.
    """
    chex.assert_shape(weights, (None, len(frame.tensors), None))
    parts = []
    for basis, rows in zip(frame.bases, weights.astype(np.float32).swapaxes(0, 1), strict=True):
        decomposed = _weighted_svd(basis.a, basis.b, rows)
        parts.append(_in_full_space(decomposed, basis.q_in, basis.q_out, rank))
    return assemble(frame.tensors, parts)


def assemble(tensors: Tensors, parts: list[Truncated]) -> list[tuple[Adapter, float]]:
    """Returns adapters from the factors of their tensors.

    Args:
      tensors: projection and layer of each of `parts`.
      parts: factors of one tensor of all adapters, C on the first axis.

    Returns:
      C pairs: the adapter, and the share of its squared norm that truncation lost.
    """
    return [
        (
            stack_layers(tensors, [(part.a[c], part.b[c]) for part in parts]),
            lost_share([part.energy[c] for part in parts]),
        )
        for c in range(len(parts[0].a))
    ]


def lost_share(energies: list[np.ndarray]) -> float:
    """Returns 1 - kept / whole from float64[2] (kept, whole) per tensor; 0 if none is given."""
    kept, whole = np.sum(energies, axis=0) if energies else (1.0, 1.0)
    return float(max(0.0, 1.0 - kept / whole)) if whole > 0 else 0.0


def update_product(left: Adapter, right: Adapter) -> float:
    """Returns the inner product of all updates of two adapters together."""
    total = 0.0
    for projection, one in left['layers'].items():
        other = right['layers'].get(projection)
        if other is None:  # no update there
            continue
        for a, b, x, y in zip(one['a'], one['b'], other['a'], other['b'], strict=True):
            total += float(np.sum((a.T @ x) * (b @ y.T)))
    return total


def update_norm(adapter: Adapter) -> float:
    """Returns the Frobenius norm of all updates of an adapter together."""
    return float(np.sqrt(max(update_product(adapter, adapter), 0.0)))


def update_cosine(left: Adapter, right: Adapter) -> float:
    """Returns the cosine between two adapters' updates; 0 if one of them is zero."""
    norms = update_norm(left) * update_norm(right)
    return update_product(left, right) / norms if norms > 0 else 0.0


def stack_layers(tensors: Tensors, factors: list[tuple[np.ndarray, np.ndarray]]) -> Adapter:
    """Returns an adapter tree from one pair of factors per tensor."""
    layers: dict[str, dict[str, list[np.ndarray]]] = {}
    for (projection, _), (a, b) in zip(tensors, factors, strict=True):
        entry = layers.setdefault(projection, {'a': [], 'b': []})
        entry['a'].append(a)
        entry['b'].append(b)
    return {
        'layers': {
            projection: {key: np.stack(parts) for key, parts in entry.items()}
            for projection, entry in layers.items()
        }
    }
