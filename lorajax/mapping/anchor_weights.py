"""Weights of the anchors: the interface, and solvers on fixed kernels.

A weighting sees adapters and returns, for each target tensor, weights of the anchors. What is
done with them is `combination`'s business.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from lorajax.mapping import gram, layer_alignment, ridge, scores
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.float64 import on_host
from lorajax.mapping.layer_alignment import Grouping
from lorajax.mapping.layout import Leaves, indices, numbers, prefixed
from lorajax.mapping.options import Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.solvers import Problem, Query, Solver
from lorajax.types import JsonDict

# Shares of the global kernel tried by leave-one-out for the hierarchical scope.
_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

_loo_r2 = on_host(ridge.loo_r2)


class FittedWeights(NamedTuple):
    """A fitted weighting.

    arrays: what `AnchorWeighting.weights` needs, by name. info: JSON-able facts. left_out:
    float64[P, A, A], row i predicts anchor i from the others, with penalties and the like that
    were chosen on all.
    """

    arrays: dict[str, np.ndarray]
    info: JsonDict
    left_out: np.ndarray


class AnchorWeights(NamedTuple):
    """What a query gets.

    weights: float64[P, A] of the anchors in each target tensor. span_distance: share of the
    query's norm outside the anchors' span, in [0, 1]. cosines: float64[A], of the query with the
    anchors, which ranks them.
    """

    weights: np.ndarray
    span_distance: float
    cosines: np.ndarray


class AnchorWeighting(Protocol):
    """A way to weight the anchors.

    Attributes:
      space: 'factor' or 'delta': what the weights combine, factors or updates.
    """

    @property
    def space(self) -> str: ...

    @property
    def layout(self) -> Leaves:
        """What `FittedWeights.arrays` holds."""
        ...

    def fit(self, source: Anchors, target: Anchors, options: Options) -> FittedWeights:
        """Fits on paired anchors.

        Args:
          source, target: anchors with equal tasks.
          options: see `Options`.

        Raises:
          InputError: if an anchor holds NaN or infinity.
        """
        ...

    def weights(
        self, arrays: Mapping[str, np.ndarray], source: Anchors, queries: Queries
    ) -> list[AnchorWeights]:
        """Weights the anchors for checked queries.

        Args:
          arrays: of `FittedWeights`.
          source: anchors of the source.
          queries: adapters of the source.

        Returns:
          One `AnchorWeights` for each query.

        Raises:
          InputError: if a query holds NaN or infinity.
        """
        ...


@dataclasses.dataclass(frozen=True)
class KernelWeighting:
    """Weights by a solver on kernels that are fixed beforehand.

    Attributes:
      solver: turns kernels into weights.
      space: 'factor' or 'delta', for the source's kernels and the target's combination.
      normalise: 'none'; 'trace', each tensor's kernel divided by its mean diagonal; 'cosine',
        each tensor of each adapter scaled to norm 1.
      scope: 'global', 'module', 'tensor', or 'hierarchical' (a mixture of global and tensor
        chosen by leave-one-out).
      equal_tensors: updates of the target are divided by their tensor's mean norm before the
        solver sees them, so that each tensor counts alike.
    """

    solver: Solver
    space: str
    normalise: str = 'none'
    scope: str = 'global'
    equal_tensors: bool = True

    @property
    def layout(self) -> Leaves:
        """See `AnchorWeighting`."""
        return {
            'mix': numbers('G X'),
            'source': numbers('G A A'),
            'target': numbers('G A A'),
            'cosines': numbers('A A'),
            'lengths': numbers('A'),
            'norms': numbers('X A' if self.normalise == 'cosine' else 'X 1'),
            'group_of': indices('P', below='G'),
            **prefixed('solver.', self.solver.layout),
        }

    def fit(self, source: Anchors, target: Anchors, options: Options) -> FittedWeights:
        """See `AnchorWeighting`."""
        norms = self._norms(source.gram(self.space))
        kernels = source.gram(self.space) / (norms[:, :, None] * norms[:, None, :])
        targets = target.gram(self.space)
        if self.space == 'delta' and self.equal_tensors:
            targets = targets / gram.trace_scales(targets)[:, None, None]
        whole = kernels.sum(0)
        lengths = _positive(np.sqrt(whole.diagonal()))
        cosines = whole / (lengths[:, None] * lengths)
        best_score = -np.inf
        for share, grouping in self._groupings(source, target):
            problem = Problem(grouping.kernels(kernels), grouping.targets(targets), cosines)
            fit = self.solver.fit(problem, options)
            score = float(_loo_r2(fit.left_out, problem.target))
            if score > best_score:
                best_score = score
                best = grouping, problem, fit, share
        grouping, problem, fit, share = best
        arrays = {
            'source': problem.source,
            'target': problem.target,
            'cosines': cosines,
            'lengths': lengths,
            'norms': norms,
            'mix': grouping.mix,
            'group_of': grouping.group_of,
            **{f'solver.{name}': value for name, value in fit.state.items()},
        }
        info = {
            **fit.info,
            'global_share': share,
            'loo_r2_own_space': best_score,
            'anchor_span_distances': scores.anchor_span_distances(problem.source),
        }
        return FittedWeights(arrays, info, fit.left_out[grouping.group_of])

    def weights(
        self, arrays: Mapping[str, np.ndarray], source: Anchors, queries: Queries
    ) -> list[AnchorWeights]:
        """See `AnchorWeighting`."""
        grouping = Grouping(arrays['mix'], arrays['group_of'])
        problem = Problem(arrays['source'], arrays['target'], arrays['cosines'])
        state = {k.removeprefix('solver.'): v for k, v in arrays.items() if k[:7] == 'solver.'}
        norms = arrays['norms']
        cross, own = queries.products(source, self.space)
        own_norms = _positive(np.sqrt(own)) if self.normalise == 'cosine' else norms[:, 0]
        cross, own = cross / (own_norms[..., None] * norms), own / own_norms**2
        lengths = _positive(np.sqrt(own.sum(1)))[:, None] * arrays['lengths']
        grouped = Query(
            np.stack([grouping.kernels(rows) for rows in cross]), cross.sum(1) / lengths
        )
        weights = self.solver.weights(state, problem, grouped)[:, grouping.group_of]
        distances = [
            scores.span_distance(problem.source, rows, grouping.kernels(sizes))
            for rows, sizes in zip(grouped.source, own, strict=True)
        ]
        return list(map(AnchorWeights, weights, distances, grouped.cosines))

    def _norms(self, source_gram: np.ndarray) -> np.ndarray:
        """What each tensor of each anchor is divided by: float64[X, A], or [X, 1] for all."""
        if self.normalise == 'cosine':
            return _positive(np.sqrt(np.einsum('xtt->xt', source_gram)))
        if self.normalise == 'trace':
            return np.sqrt(gram.trace_scales(source_gram))[:, None]
        return np.ones((len(source_gram), 1))

    def _groupings(
        self, source: Anchors, target: Anchors
    ) -> Iterator[tuple[float | None, Grouping]]:
        """Yields the groupings to choose from, with their share of the global kernel."""
        tensors = source.tensors, target.tensors
        coarse, fine = layer_alignment.one_group(*tensors), layer_alignment.by_tensor(*tensors)
        if self.normalise != 'none':
            coarse, fine = layer_alignment.averaged(coarse), layer_alignment.averaged(fine)
        if self.scope == 'global':
            yield None, coarse
        elif self.scope == 'tensor':
            yield None, fine
        elif self.scope == 'module':
            yield None, layer_alignment.averaged(layer_alignment.by_module(*tensors))
        else:
            for share in _SHARES:
                yield share, layer_alignment.between(coarse, fine, share)


def _positive(norms: np.ndarray) -> np.ndarray:
    """Replaces the norms of zero tensors, whose inner products are zero anyway."""
    return np.where(norms > 0, norms, 1.0)
