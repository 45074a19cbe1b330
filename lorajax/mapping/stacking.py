"""Combinations of methods, with coefficients that leave-one-out finds on the anchors.

The parts are weighted combinations of the anchors (`weighing`) and the bilinear map
(`bilinear`), which leaves their span. All of them predict updates, so a combination is one too,
and is truncated once. Coefficients are >= 0 and minimise the left-out squared error, each anchor
relative to its own norm (stacked regression: Wolpert 1992; Breiman 1996).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from lorajax.errors import InputError
from lorajax.mapping import bilinear, gram, scores
from lorajax.mapping.anchor_weights import Weigher
from lorajax.mapping.anchors import Anchors, not_finite, read_layer
from lorajax.mapping.combination import describe_weights
from lorajax.mapping.options import Options
from lorajax.mapping.state import Fitted, Prediction, present
from lorajax.mapping.subspace import (
    Basis,
    Frame,
    leading_factors,
    lost_share,
    orthonormal_bases,
    reduce_basis,
    stack_layers,
    update_norm,
    weighted_core,
)
from lorajax.types import Adapter, Array, JsonDict


class BilinearPart(NamedTuple):
    """The bilinear map of every target tensor, and its left-out predictions B_i.

    source_frame: reduced bases of the source's anchors. per_tensor: maps and reduced bases of
    the target, by name. cross: float64[P, A, A], <B_i, Y_t>. norms: float64[P, A], |B_i|^2.
    """

    source_frame: Frame
    per_tensor: list[dict[str, np.ndarray]]
    cross: np.ndarray
    norms: np.ndarray


@dataclasses.dataclass(frozen=True)
class Blend:
    """Which parts are combined.

    Attributes:
      weighers: by name; all of the 'delta' space.
      has_bilinear: whether the bilinear map is a part.
    """

    weighers: Mapping[str, Weigher]
    has_bilinear: bool

    def fit(self, source: Anchors, target: Anchors, options: Options) -> Fitted:
        """Fits the parts and their coefficients.

        Raises:
          InputError: if an anchor holds NaN or infinity, or the bilinear map is asked for a
            projection that the source lacks.
        """
        fits = {
            name: weigher.fit_weighing(source, target, options)
            for name, weigher in self.weighers.items()
        }
        part = fit_bilinear(source, target, options) if self.has_bilinear else None
        rows = [fit.left_out for fit in fits.values()]
        grams, truths = _part_products(rows, part, target.delta_gram)
        coefficients = _stack(grams, truths, target.delta_gram)
        if not rows:
            coefficients = np.ones(1)
        names = [*fits, *(['bilinear'] if part else [])]
        norms = np.einsum('c,pacd,d->pa', coefficients, grams, coefficients)
        info: JsonDict = {
            'coefficients': dict(zip(names, coefficients.tolist(), strict=True)),
            'parts': {name: fit.info for name, fit in fits.items()},
            **scores.report(truths @ coefficients, norms, target.delta_gram),
            'mean_anchor_norm': target.mean_norm,
        }
        arrays = {'coefficients': coefficients}
        for name, fit in fits.items():
            arrays |= {f'{name}/{key}': value for key, value in fit.arrays.items()}
        return Fitted(
            target.tensors,
            arrays,
            info,
            per_tensor=part.per_tensor if part else [],
            source=source if fits else None,
            frame=target.frame,
            source_frame=part.source_frame if part else None,
        )

    def predict(
        self, fitted: Fitted, queries: Sequence[Adapter], output_rank: int
    ) -> list[Prediction]:
        """Translates checked adapters; see `span.predict`."""
        frame = present(fitted.frame)
        anchors = frame.bases[0].a.shape[0]
        weights = np.zeros((len(queries), len(fitted.tensors), anchors))
        cosines = np.zeros((len(queries), anchors))
        reports: list[JsonDict] = [{} for _ in queries]
        for (name, weigher), share in zip(
            self.weighers.items(), fitted.arrays['coefficients'], strict=False
        ):
            source = present(fitted.source)
            arrays = {
                key.removeprefix(f'{name}/'): value
                for key, value in fitted.arrays.items()
                if key.startswith(f'{name}/')
            }
            for index, found in enumerate(weigher.weigh(arrays, source, queries)):
                weights[index] += share * found.weights
                cosines[index] = found.cosines
                reports[index]['distance_to_span'] = found.distance
        predictions = []
        for query, rows, near, report in zip(queries, weights, cosines, reports, strict=True):
            if fitted.source is not None:
                report |= describe_weights(rows, near, fitted.source.tasks)
            predictions.append(self._predict_one(fitted, query, rows, output_rank, report))
        return predictions

    def _predict_one(
        self, fitted: Fitted, query: Adapter, weights: np.ndarray, rank: int, report: JsonDict
    ) -> Prediction:
        """Adds up the parts of one prediction and truncates it."""
        frame = present(fitted.frame)
        share = fitted.arrays['coefficients'][-1]
        reduced = _reduced_query(present(fitted.source_frame), query) if self.has_bilinear else {}
        factors, energies = [], []
        for index, (basis, row) in enumerate(zip(frame.bases, weights, strict=True)):
            core = weighted_core(basis.a, basis.b, row.astype(np.float32))
            if self.has_bilinear:
                arrays = fitted.per_tensor[index]
                projection, _ = fitted.tensors[index]
                pairs = [reduced[projection, k] for k in arrays['layers'].tolist()]
                x_in, x_out = (np.stack(parts) for parts in zip(*pairs, strict=True))
                maps = bilinear.Maps(arrays['inner'], arrays['outer'])
                small = bilinear.mean_prediction(maps, x_in, x_out)
                core += share * (arrays['target_in'] @ small @ arrays['target_out'].T)
            a, b, energy = leading_factors(core, basis.q_in, basis.q_out, rank)
            factors.append((a, b))
            energies.append(energy)
        adapter = stack_layers(fitted.tensors, factors)
        report |= {
            'norm_ratio': update_norm(adapter) / (fitted.info['mean_anchor_norm'] or 1.0),
            'energy_lost': lost_share(energies),
        }
        return Prediction(adapter, report)


def fit_bilinear(source: Anchors, target: Anchors, options: Options) -> BilinearPart:
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
    bases = {
        tensor: reduce_basis(orthonormal_bases(a, b), rank)[0]
        for tensor, (a, b) in zip(source.tensors, source.stream(), strict=True)
    }
    keep = fold_masks(len(source), options.bilinear_folds)
    per_tensor, cross, norms = [], [], []
    for index, (projection, layer) in enumerate(target.tensors):
        depths = target.shapes[projection].layers, source.shapes[projection].layers
        width = min(options.source_layers, depths[1])
        window = bilinear.source_window(layer, *depths, width)
        basis = target.frame.bases[index]
        reduced, _ = reduce_basis(basis, rank)
        samples = bilinear.Samples(
            jnp.stack([bases[projection, k].a for k in window], axis=1),
            jnp.stack([bases[projection, k].b for k in window], axis=1),
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
    frame = Frame(source.tensors, [Basis(*map(np.asarray, b)) for b in bases.values()])
    return BilinearPart(frame, per_tensor, np.stack(cross), np.stack(norms))


def fold_masks(anchors: int, folds: int) -> np.ndarray:
    """Returns float32[F + 1, A]: 0 where a fold leaves an anchor out; the last row is ones."""
    assigned = np.arange(anchors) % min(folds, anchors)
    masks = [assigned != fold for fold in range(min(folds, anchors))]
    return np.array([*masks, np.ones(anchors, bool)], np.float32)


@jax.jit
def _left_out(
    maps: bilinear.Maps, samples: bilinear.Samples, keep: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """<B_i, Y_t> as float32[A, A] and |B_i|^2 as float32[A], each B_i from a fold without i."""
    fold_of = jnp.argmin(keep, axis=0)

    def one(fold: jax.Array, x_in: Array, x_out: Array) -> tuple[jax.Array, jax.Array]:
        own = jax.tree.map(lambda leaf: leaf[fold], maps)
        core = bilinear.mean_prediction(own, x_in, x_out)
        return gram.einsum('amr,mn,arn->a', samples.y_in, core, samples.y_out), jnp.sum(core**2)

    return jax.vmap(one)(fold_of, samples.x_in, samples.x_out)


def _reduced_query(
    frame: Frame, query: Adapter
) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """Factors of a query in the reduced bases of the source's anchors, by tensor."""
    reduced = {}
    for (projection, layer), basis in zip(frame.tensors, frame.bases, strict=True):
        a, b = read_layer(query, projection, layer)
        pair = np.asarray(basis.q_in).T @ a, b @ np.asarray(basis.q_out)
        if not all(np.isfinite(factor).all() for factor in pair):
            raise InputError(f'query adapter: {not_finite(projection, layer)}')
        reduced[projection, layer] = pair
    return reduced


def _part_products(
    rows: Sequence[np.ndarray], part: BilinearPart | None, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inner products between the parts' left-out predictions, and with the truth.

    Returns:
      float64[P, A, C, C] and float64[P, A, C].
    """
    count = len(rows) + (part is not None)
    tensors, anchors, _ = target.shape
    grams, truths = np.zeros((tensors, anchors, count, count)), np.zeros((tensors, anchors, count))
    for c, left in enumerate(rows):
        truths[..., c] = np.einsum('pit,pti->pi', left, target)
        for d, right in enumerate(rows):
            grams[..., c, d] = np.einsum('pis,pst,pit->pi', left, target, right, optimize=True)
        if part is not None:
            grams[..., c, -1] = grams[..., -1, c] = np.einsum('pit,pit->pi', left, part.cross)
    if part is not None:
        truths[..., -1] = np.einsum('pii->pi', part.cross)
        grams[..., -1, -1] = part.norms
    return grams, truths


def _stack(grams: np.ndarray, truths: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Non-negative coefficients float64[C] of least left-out error."""
    scales = gram.trace_scales(target)
    own = np.einsum('pii,p->i', target, 1.0 / scales)
    own = np.where(own > 0, own, 1.0)
    normal = np.einsum('picd,p,i->cd', grams, 1.0 / scales, 1.0 / own)
    right = np.einsum('pic,p,i->c', truths, 1.0 / scales, 1.0 / own)
    if not normal.any():
        return np.full(len(right), 1.0 / len(right))
    values, vectors = np.linalg.eigh(normal)
    roots = np.sqrt(np.maximum(values, 1e-9 * values[-1]))
    return scipy.optimize.nnls(roots[:, None] * vectors.T, (vectors.T @ right) / roots)[0]
