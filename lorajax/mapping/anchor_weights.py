"""Ways to give the anchors weights: the interface, and the rules on fixed kernels.

A weigher sees adapters and returns, for each target tensor, weights of the anchors. What is done
with them is `span`'s business.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from lorajax.mapping import gram, layer_alignment, ridge, scores
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.layer_alignment import Grouping
from lorajax.mapping.options import Options
from lorajax.mapping.solvers import Problem, Query, Rule
from lorajax.types import Adapter, JsonDict

# Shares of the global kernel tried by leave-one-out for the hierarchical scope.
_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class Weighing(NamedTuple):
    """A fitted way to weigh the anchors.

    arrays: what `weigh` needs, by name. info: JSON-able facts. left_out: float64[P, A, A], row
    i predicts anchor i without having seen it.
    """

    arrays: dict[str, np.ndarray]
    info: JsonDict
    left_out: np.ndarray


class Weighed(NamedTuple):
    """What a query gets.

    weights: float64[P, A] of the anchors in each target tensor. distance: share of the query's
    norm outside the anchors' span, in [0, 1]. cosines: float64[A], of the query with the
    anchors, which ranks them.
    """

    weights: np.ndarray
    distance: float
    cosines: np.ndarray


class Weigher(Protocol):
    """A family of ways to weigh the anchors.

    Attributes:
      space: 'factor' or 'delta': what the weights combine, factors or updates.
    """

    @property
    def space(self) -> str: ...

    def fit_weighing(self, source: Anchors, target: Anchors, options: Options) -> Weighing:
        """Fits on paired anchors.

        Args:
          source, target: anchors with equal tasks.
          options: see `Options`.

        Raises:
          InputError: if an anchor holds NaN or infinity.
        """
        ...

    def weigh(
        self, arrays: Mapping[str, np.ndarray], source: Anchors, queries: Sequence[Adapter]
    ) -> list[Weighed]:
        """Weighs the anchors for checked queries.

        Args:
          arrays: of `Weighing`.
          source: anchors of the source.
          queries: adapters of the source.

        Returns:
          One `Weighed` for each query.

        Raises:
          InputError: if a query holds NaN or infinity.
        """
        ...


@dataclasses.dataclass(frozen=True)
class RuleWeigher:
    """Weighs anchors by a rule on kernels that are fixed beforehand.

    Attributes:
      rule: turns kernels into weights.
      space: 'factor' or 'delta', for the source's kernels and the target's combination.
      normalise: 'none'; 'trace', each tensor's kernel divided by its mean diagonal; 'cosine',
        each tensor of each adapter scaled to norm 1.
      scope: 'global', 'module', 'tensor', or 'hierarchical' (a mixture of global and tensor
        chosen by leave-one-out).
    """

    rule: Rule
    space: str
    normalise: str = 'none'
    scope: str = 'global'

    def fit_weighing(self, source: Anchors, target: Anchors, options: Options) -> Weighing:
        """See `Weigher`."""
        norms = _norms(self, source.gram(self.space))
        kernels = source.gram(self.space) / (norms[:, :, None] * norms[:, None, :])
        targets = target.gram(self.space)
        if self.space == 'delta':
            targets = targets / gram.trace_scales(targets)[:, None, None]
        whole = kernels.sum(0)
        lengths = _positive(np.sqrt(whole.diagonal()))
        cosines = whole / (lengths[:, None] * lengths)
        best_score = -np.inf
        for share, grouping in _groupings(self, source, target):
            problem = Problem(grouping.kernels(kernels), grouping.targets(targets), cosines)
            state, info = self.rule.fit(problem, options)
            left_out = self.rule.left_out(state, problem)
            score = float(ridge.loo_r2(left_out, problem.target))
            if score > best_score:
                best_score = score
                best = grouping, problem, state, info, share, left_out
        grouping, problem, state, info, share, left_out = best
        arrays = {
            'source': problem.source,
            'target': problem.target,
            'cosines': cosines,
            'lengths': lengths,
            'norms': norms,
            'mix': grouping.mix,
            'group_of': grouping.group_of,
            **{f'rule.{name}': value for name, value in state.items()},
        }
        info = {
            **info,
            'global_share': share,
            'loo_r2_own_space': best_score,
            'anchor_span_distances': scores.anchor_span_distances(problem.source),
        }
        return Weighing(arrays, info, left_out[grouping.group_of])

    def weigh(
        self, arrays: Mapping[str, np.ndarray], source: Anchors, queries: Sequence[Adapter]
    ) -> list[Weighed]:
        """See `Weigher`."""
        grouping = Grouping(arrays['mix'], arrays['group_of'])
        problem = Problem(arrays['source'], arrays['target'], arrays['cosines'])
        state = {k.removeprefix('rule.'): v for k, v in arrays.items() if k.startswith('rule.')}
        results = []
        for cross, own in zip(*source.cross(queries, self.space), strict=True):
            norms = arrays['norms']
            own_norms = _positive(np.sqrt(own))[:, None] if self.normalise == 'cosine' else norms
            cross, own = cross / (own_norms * norms), own / own_norms[:, 0] ** 2
            length = _positive(np.sqrt(own.sum()))
            query = Query(grouping.kernels(cross), cross.sum(0) / (arrays['lengths'] * length))
            weights = self.rule.weights(state, problem, query)[grouping.group_of]
            distance = scores.span_distance(problem.source, query.source, grouping.kernels(own))
            results.append(Weighed(weights, distance, query.cosines))
        return results


def _norms(method: RuleWeigher, source_gram: np.ndarray) -> np.ndarray:
    """What each tensor of each anchor is divided by: float64[X, A], or [X, 1] for all."""
    if method.normalise == 'cosine':
        return _positive(np.sqrt(np.einsum('xtt->xt', source_gram)))
    if method.normalise == 'trace':
        return np.sqrt(gram.trace_scales(source_gram))[:, None]
    return np.ones((len(source_gram), 1))


def _positive(norms: np.ndarray) -> np.ndarray:
    """Replaces the norms of zero tensors, whose inner products are zero anyway."""
    return np.where(norms > 0, norms, 1.0)


def _groupings(
    method: RuleWeigher, source: Anchors, target: Anchors
) -> Iterator[tuple[float | None, Grouping]]:
    """Yields the groupings to choose from, with their share of the global kernel."""
    tensors = source.tensors, target.tensors
    coarse, fine = layer_alignment.one_group(*tensors), layer_alignment.by_tensor(*tensors)
    if method.normalise != 'none':
        coarse, fine = layer_alignment.averaged(coarse), layer_alignment.averaged(fine)
    if method.scope == 'global':
        yield None, coarse
    elif method.scope == 'tensor':
        yield None, fine
    elif method.scope == 'module':
        yield None, layer_alignment.averaged(layer_alignment.by_module(*tensors))
    else:
        for share in _SHARES:
            yield share, layer_alignment.between(coarse, fine, share)
