"""Sums of low-rank updates and their truncation, exactly, by QR and a small SVD.

A weighted sum of A updates of rank R has rank up to A R. In orthonormal bases of all anchors'
factors, a_cat = Q_in R_in and b_cat^T = Q_out R_out, it is Q_in C Q_out^T with a core matrix C of
at most A R x A R, whatever the widths of the model. The bases are computed once; a prediction
then costs one small SVD per tensor. The idea is that of Core Space (arXiv 2509.17786).
"""

import collections
import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import chex
import numpy as np

from lorajax.errors import InputError
from lorajax.mapping.gram import side_by_side
from lorajax.mapping.tensor_loop import over_tensors
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
    q_in, r_in = np.linalg.qr(side_by_side(a))
    q_out, r_out = np.linalg.qr(b.reshape(anchors * rank, -1).T)
    core_a = r_in.reshape(-1, anchors, rank).transpose(1, 0, 2)
    core_b = r_out.T.reshape(anchors, rank, -1)
    return Basis(q_in, q_out, core_a, core_b)


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
    q_in, q_out, a, b = (np.asarray(part, np.float32) for part in basis)
    inner, outer = a.swapaxes(1, 2) @ a, b @ b.swapaxes(1, 2)  # A R R
    u_in = _leading_directions(side_by_side(a @ outer) @ side_by_side(a).T, rank)
    rows = b.reshape(-1, b.shape[2])
    u_out = _leading_directions((inner @ b).reshape(rows.shape).T @ rows, rank)
    q_in, sign_in = signed(q_in @ u_in)
    q_out, sign_out = signed(q_out @ u_out)
    a, b = (u_in * sign_in).T @ a, b @ (u_out * sign_out)
    whole = np.sum(inner * outer, dtype=np.float64)
    kept = np.sum((a.swapaxes(1, 2) @ a) * (b @ b.swapaxes(1, 2)), dtype=np.float64)
    return Basis(q_in, q_out, a, b), float(1.0 - kept / whole) if whole > 0 else 0.0


def _leading_directions(moment: np.ndarray, rank: int) -> np.ndarray:
    """Leading eigenvectors float32[M, rank]; zero where the eigenvalue is rounding error."""
    values, vectors = np.linalg.eigh(moment)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    return np.where(values > 1e-6 * values[0], vectors, np.float32(0.0))


def signed(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signs columns so that the entry of largest magnitude is positive; also the signs.

    Args:
      vectors: float32[..., n, R].

    Returns:
      The signed columns, and float32[..., R] of 1 and -1.
    """
    rows = np.abs(vectors).argmax(-2)[..., None, :]
    largest = np.take_along_axis(vectors, rows, -2)[..., 0, :]
    signs = np.where(largest < 0, np.float32(-1.0), np.float32(1.0))
    return vectors * signs[..., None, :], signs


def weighted_core(a: Array, b: Array, weights: np.ndarray) -> np.ndarray:
    """Returns sum_t weights[c, t] a[t] @ b[t] as float32[C, M, N].

    Args:
      a, b: float32[A, M, R] and float32[A, R, N].
      weights: float32[C, A].
    """
    chex.assert_rank([a, b, weights], [3, 3, 2])
    chex.assert_equal([a.shape[0], a.shape[2]], [b.shape[0], b.shape[1]])
    chex.assert_equal(weights.shape[1], a.shape[0])
    columns = side_by_side(np.asarray(a, np.float32))
    rows = np.asarray(b, np.float32).reshape(columns.shape[1], -1)
    return (columns * np.repeat(weights, a.shape[2], axis=1)[:, None]) @ rows


class Truncated(NamedTuple):
    """The best factors of some updates of one tensor, in a fixed gauge.

    Both factors carry the square root of the singular values; each singular vector of the input
    side is signed so that its entry of largest magnitude is positive.
    """

    a: np.ndarray  # float32[..., in, rank]
    b: np.ndarray  # float32[..., rank, out]
    energy: np.ndarray  # float64[..., 2], squared Frobenius norm of the result and of the whole


def leading_factors(core: np.ndarray, q_in: Array, q_out: Array, rank: int) -> Truncated:
    """Returns the best rank-`rank` factors of Q_in C Q_out^T.

    Args:
      core: float32[C, M, N].
      q_in, q_out: float32[..., in, M] and float32[..., out, N], orthonormal columns, the same for
        all or with an axis C.
      rank: of the result; beyond min(M, N) the factors are padded with zeros.

    Raises:
      InputError: if a core is not finite, which a decomposition would fail at.

    Source: Eckart and Young 1936.
    """
    chex.assert_equal(core.shape[-2:], (q_in.shape[-1], q_out.shape[-1]))
    if not np.isfinite(core).all():
        raise InputError(
            'a predicted update holds NaN or infinity, or overflows float32; expected a mapping '
            'and adapters of finite numbers'
        )
    u, s, vt = np.linalg.svd(core, full_matrices=False)
    kept = min(rank, s.shape[-1])
    a, signs = signed(np.asarray(q_in, np.float32) @ u[..., :kept])
    b = vt[..., :kept, :] @ np.asarray(q_out, np.float32).swapaxes(-1, -2)
    root = np.sqrt(s[..., :kept])
    squares = s.astype(np.float64) ** 2
    energy = np.stack([squares[..., :kept].sum(-1), squares.sum(-1)], -1)
    a, b = a * root[..., None, :], b * (root * signs)[..., None]
    missing = rank - kept
    if missing:
        a, b = (
            np.pad(factor, [(0, 0)] * (factor.ndim - 2) + widths)
            for factor, widths in ((a, [(0, 0), (0, missing)]), (b, [(0, missing), (0, 0)]))
        )
    return Truncated(a, b, energy)


def with_rank(a: np.ndarray, b: np.ndarray, rank: int) -> Truncated:
    """Returns factors of another rank for products a @ b.

    Args:
      a, b: float32[C, in, R] and float32[C, R, out].
      rank: > 0; at rank >= R the products are unchanged.
    """
    chex.assert_rank([a, b], 3)
    q_in, r_in = np.linalg.qr(a)
    q_out, r_out = np.linalg.qr(b.swapaxes(1, 2))
    return leading_factors(r_in @ r_out.swapaxes(1, 2), q_in, q_out, rank)


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

    def one(index: int) -> Truncated:
        basis, rows = frame.bases[index], weights[:, index].astype(np.float32)
        core = weighted_core(basis.a, basis.b, rows)
        return leading_factors(core, basis.q_in, basis.q_out, rank)

    return assemble(frame.tensors, over_tensors(one, range(len(frame.bases))))


def assemble(tensors: Tensors, parts: Iterable[Truncated]) -> list[tuple[Adapter, float]]:
    """Returns adapters from the factors of their tensors.

    Args:
      tensors: projection and layer of each of `parts`, layers of a projection from 0 on.
      parts: factors of one tensor of all adapters, C on the first axis; taken one by one.

    Returns:
      C pairs: the adapter, and the share of its squared norm that truncation lost.
    """
    depths = collections.Counter(projection for projection, _ in tensors)
    layers: list[dict[str, dict[str, np.ndarray]]] = []
    energies = []
    for (projection, layer), part in zip(tensors, parts, strict=True):
        layers = layers or [{} for _ in part.a]
        for tree, a, b in zip(layers, part.a, part.b, strict=True):
            if projection not in tree:
                depth = depths[projection]
                tree[projection] = {
                    'a': np.empty((depth, *a.shape), np.float32),
                    'b': np.empty((depth, *b.shape), np.float32),
                }
            tree[projection]['a'][layer], tree[projection]['b'][layer] = a, b
        energies.append(part.energy)
    kept, whole = np.moveaxis(np.sum(energies, axis=0), -1, 0)  # C
    lost = np.maximum(0.0, 1.0 - kept / np.where(whole > 0, whole, 1.0)) * (whole > 0)
    return [({'layers': tree}, float(share)) for tree, share in zip(layers, lost, strict=True)]


def frame_adapters(frame: Frame) -> list[Adapter]:
    """Returns the adapters whose bases a frame holds, up to rounding; the inverse of making it."""
    adapters: list[Adapter] = []
    layers: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for (projection, _), basis in zip(frame.tensors, frame.bases, strict=True):
        q_in, q_out, a, b = (np.asarray(part, np.float32) for part in basis)
        layers.setdefault(projection, []).append((q_in @ a, b @ q_out.T))  # A in R, A R out
    for index in range(len(frame.bases[0].a)):
        tree = {
            projection: {
                'a': np.stack([a[index] for a, _ in pairs]),
                'b': np.stack([b[index] for _, b in pairs]),
            }
            for projection, pairs in layers.items()
        }
        adapters.append({'layers': tree})
    return adapters


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
