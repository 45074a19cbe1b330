"""The bilinear map of every target tensor: fitted on anchors, scored on folds, applied.

See `bilinear` for the mathematics. Here updates are brought into reduced bases of the anchors,
which keep the leading `Options.basis_rank` directions of each side of each tensor. That loses
nothing where the rank is that of all anchors together (16 anchors of rank 4: 64), and something
at 3B (16 of rank 16: 256); the diagnostics say how much.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.errors import InputError
from lorajax.mapping import bilinear, gram
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.compiling import quick_jit
from lorajax.mapping.layout import indices, numbers
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.subspace import Basis, Frame, orthonormal_bases, reduce_basis
from lorajax.mapping.tensor_loop import over_tensors
from lorajax.types import Array, JsonDict

# Of one target tensor; the reduced bases have m and n directions on the source, S and T here.
LAYOUT = {
    'layers': indices('K', below='D'),
    'target_in': numbers('M S'),
    'target_out': numbers('N T'),
    'inner': numbers('B K S m'),
    'outer': numbers('B K T n'),
}


class BilinearPart(NamedTuple):
    """The bilinear map of every target tensor, and its left-out predictions B_i.

    source_frame: reduced bases of the source's anchors. per_tensor: maps and reduced bases of
    the target, by name. cross: float64[P, A, A], <B_i, Y_t>. norms: float64[P, A], |B_i|^2.
    info: how many folds the left-out predictions come from, and what the reduced bases lose.
    """

    source_frame: Frame
    per_tensor: list[dict[str, np.ndarray]]
    cross: np.ndarray
    norms: np.ndarray
    info: JsonDict


def fit(source: Anchors, target: Anchors, options: Options) -> BilinearPart:
    """Fits the bilinear map of every target tensor, and on folds to score it.

    Args:
      source, target: anchors with equal tasks.
      options: see `Options`.

    Raises:
      InputError: if the target adapts a projection that the source does not.
    """
    missing = sorted(set(target.shapes) - set(source.shapes))
    if missing:
        raise InputError(f'source adapters lack {missing}, which this method maps one to one')
    rank = options.basis_rank
    reductions = over_tensors(
        lambda tensor: reduce_basis(orthonormal_bases(*source.layer(*tensor)), rank), source.tensors
    )
    bases, lost = _used(source, list(reductions))
    reductions = over_tensors(lambda basis: reduce_basis(basis, rank), target.frame.bases)
    target_bases, target_lost = _used(target, list(reductions))
    keep = fold_masks(len(source), options.bilinear_folds)
    per_tensor, cross, norms = [], [], []
    for index, (projection, layer) in enumerate(target.tensors):
        depths = target.shapes[projection].layers, source.shapes[projection].layers
        width = min(options.source_layers, depths[1])
        window = bilinear.source_window(layer, *depths, width)
        basis = target.frame.bases[index]
        reduced = target_bases[projection, layer]
        samples = bilinear.Samples(
            np.stack([bases[projection, k].a for k in window], axis=1),
            np.stack([bases[projection, k].b for k in window], axis=1),
            reduced.a,
            reduced.b,
        )
        key = jax.random.fold_in(jax.random.key(options.seed), index)
        maps = bilinear.fit_folds(
            key,
            samples,
            keep,
            options.bilinear_penalty,
            options.bilinear_sweeps,
            options.bilinear_starts,
        )
        products, lengths = _left_out(maps, samples, keep)
        cross.append(np.asarray(products, np.float64))
        norms.append(np.asarray(lengths, np.float64))
        per_tensor.append(
            {
                'inner': np.asarray(maps.inner[-1]),
                'outer': np.asarray(maps.outer[-1]),
                'target_in': np.asarray(basis.q_in).T @ np.asarray(reduced.q_in),
                'target_out': np.asarray(basis.q_out).T @ np.asarray(reduced.q_out),
                'layers': np.array(window),
            }
        )
    frame = Frame(source.tensors, list(bases.values()))
    info = {
        'folds': len(keep) - 1,
        'basis_lost': {
            'source': _summary(lost),
            'target': _summary(target_lost),
        },
    }
    return BilinearPart(frame, per_tensor, np.stack(cross), np.stack(norms), info)


def _used(
    anchors: Anchors, reductions: list[tuple[Basis, float]]
) -> tuple[dict[tuple[str, int], Basis], list[float]]:
    """Drops directions that no layer of a projection uses, and takes bases and shares apart.

    So zeros in factors, as of anchors of lower rank than the widest, count neither in the mean
    diagonals that penalties are relative to, nor in the random starts.
    """
    widths: dict[str, tuple[int, int]] = {}
    for (projection, _), (basis, _) in zip(anchors.tensors, reductions, strict=True):
        here = (np.any(np.asarray(q), axis=0).sum() for q in (basis.q_in, basis.q_out))
        known = widths.get(projection, (1, 1))
        m, n = (max(int(one), other) for one, other in zip(here, known, strict=True))
        widths[projection] = m, n
    bases = {}
    for (projection, layer), (basis, _) in zip(anchors.tensors, reductions, strict=True):
        m, n = widths[projection]
        bases[projection, layer] = Basis(
            basis.q_in[:, :m], basis.q_out[:, :n], basis.a[:, :m], basis.b[..., :n]
        )
    return bases, [share for _, share in reductions]


def _summary(shares: list[float]) -> dict[str, float]:
    """Mean and largest share over tensors of the anchors' squared norm that bases lose."""
    return {'mean': float(np.mean(shares)), 'largest': float(np.max(shares))}


def fold_masks(anchors: int, folds: int) -> np.ndarray:
    """Returns float32[F + 1, A]: 0 where a fold leaves an anchor out; the last row is ones."""
    assigned = np.arange(anchors) % min(folds, anchors)
    masks = [assigned != fold for fold in range(min(folds, anchors))]
    return np.array([*masks, np.ones(anchors, bool)], np.float32)


@quick_jit()
def _left_out(
    maps: bilinear.Maps, samples: bilinear.Samples, keep: Array
) -> tuple[jax.Array, jax.Array]:
    """<B_i, Y_t> as float32[A, A] and |B_i|^2 as float32[A], each B_i from a fold without i."""
    fold_of = jnp.argmin(keep, axis=0)

    def one(fold: jax.Array, x_in: Array, x_out: Array) -> tuple[jax.Array, jax.Array]:
        own = jax.tree.map(lambda leaf: leaf[fold], maps)
        core = bilinear.mean_prediction(own, x_in, x_out)
        return gram.einsum('amr,mn,arn->a', samples.y_in, core, samples.y_out), jnp.sum(core**2)

    return jax.vmap(one)(fold_of, samples.x_in, samples.x_out)


def reduce_queries(frame: Frame, queries: Queries) -> dict[tuple[str, int], tuple[Array, Array]]:
    """Returns factors of queries in the reduced bases of the source's anchors, by tensor.

    Returns:
      float32[C, I, Q] and float32[C, Q, J] of each tensor.

    Raises:
      InputError: if a query holds NaN or infinity.
    """
    reduced: dict[tuple[str, int], tuple[Array, Array]] = {}
    sizes = []
    for tensor, basis in zip(frame.tensors, frame.bases, strict=True):
        x, y = queries.layer(*tensor)
        x = np.asarray(basis.q_in, np.float32).T @ x
        y = y @ np.asarray(basis.q_out, np.float32)
        reduced[tensor] = x, y
        sizes.append(np.square(x).sum((1, 2)) + np.square(y).sum((1, 2)))
    queries.check_finite(np.stack(sizes, axis=1), frame.tensors)
    return reduced


def predict_cores(
    arrays: dict[str, np.ndarray],
    projection: str,
    reduced: dict[tuple[str, int], tuple[Array, Array]],
) -> np.ndarray:
    """Returns predicted updates of one target tensor in the bases of its frame.

    Args:
      arrays: of the tensor, an element of `BilinearPart.per_tensor`.
      projection: of the tensor.
      reduced: of `reduce_queries`.

    Returns:
      float32[C, M, N].
    """
    pairs = [reduced[projection, k] for k in arrays['layers'].tolist()]
    x_in, x_out = (np.stack(factors, axis=1) for factors in zip(*pairs, strict=True))
    maps = bilinear.Maps(arrays['inner'], arrays['outer'])
    small = np.asarray(_mean_predictions(maps, x_in, x_out))
    return arrays['target_in'] @ small @ arrays['target_out'].T


@jax.jit
def _mean_predictions(maps: bilinear.Maps, x_in: Array, x_out: Array) -> jax.Array:
    """`bilinear.mean_prediction` of several adapters, factors with a first axis C."""
    return jax.vmap(lambda x, y: bilinear.mean_prediction(maps, x, y))(x_in, x_out)
