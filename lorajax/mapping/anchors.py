"""Adapters of one model that a mapping is fitted on: checked once, then read tensor by tensor.

A mapping sees adapters only through `Anchors` and `Queries`, so nothing here needs all of them in
memory; see `shapes`.

Axes: A adapters (tasks), L layers, R rank; P counts tensors, that is pairs of projection and
layer, projections in the order of `TARGETS` and layers within them.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from lorajax.errors import InputError
from lorajax.mapping import gram
from lorajax.mapping.shapes import check_matches, not_finite, read_layer, read_shapes, widest
from lorajax.mapping.subspace import Frame, orthonormal_bases
from lorajax.mapping.tensor_loop import over_tensors
from lorajax.types import Adapter

AdapterSource = Adapter | Callable[[], Adapter]
_Out = TypeVar('_Out')


class Anchors:
    """The adapters of one model that a mapping is fitted on, tasks in sorted order.

    Adapters of lower rank than the widest count as if they had zeros there. Inner products are
    kept once computed, so an `Anchors` may be shared by several fits; the adapters must not be
    changed in the meantime.
    """

    def __init__(self, adapters: Mapping[str, AdapterSource], side: str):
        """Checks that all adapters have the same projections and shapes, apart from the rank.

        Args:
          adapters: task -> adapter tree, or a callable returning one (called once, here). Leaves
            may be memory maps; they are read layer by layer.
          side: 'source' or 'target', for messages.

        Raises:
          InputError: if there is no adapter, or one is malformed or unlike the first.
        """
        if not adapters:
            raise InputError(f'no {side} adapters: expected at least one anchor')
        self.side = side
        self.tasks = tuple(sorted(adapters))
        self._trees: list[Adapter] = []
        for task in self.tasks:
            tree = adapters[task]
            self._trees.append(tree() if callable(tree) else tree)
        self._shapes = [read_shapes(tree, self._name(i)) for i, tree in enumerate(self._trees)]
        for index, shapes in enumerate(self._shapes):
            check_matches(shapes, self._shapes[0], self._name(index), any_rank=True)
        self.shapes = widest(self._shapes)

    def _name(self, index: int) -> str:
        return f'{self.side} adapter {self.tasks[index]!r}'

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def trees(self) -> dict[str, Adapter]:
        """Task -> adapter tree, as it was given."""
        return dict(zip(self.tasks, self._trees, strict=True))

    @functools.cached_property
    def tensors(self) -> list[tuple[str, int]]:
        """Projection and layer of each tensor: the P axis of every array in a mapping."""
        return [(p, layer) for p, shape in self.shapes.items() for layer in range(shape.layers)]

    def check_equal_ranks(self) -> None:
        """Refuses adapters of different ranks, for methods that look at the factors themselves.

        Raises:
          InputError: naming an adapter unlike the first.
        """
        for index, shapes in enumerate(self._shapes):
            check_matches(shapes, self._shapes[0], self._name(index), any_rank=False)

    def subset(self, tasks: Sequence[str]) -> 'Anchors':
        """Returns some of the anchors; inner products known here are not computed again.

        Raises:
          InputError: if one of `tasks` is no anchor.
        """
        unknown = sorted(set(tasks) - set(self.tasks))
        if unknown:
            raise InputError(f'no {self.side} adapter {unknown}, expected some of {self.tasks}')
        chosen = Anchors({task: self.trees[task] for task in tasks}, self.side)
        rows = [self.tasks.index(task) for task in chosen.tasks]
        for name in ('delta_gram', 'factor_gram'):
            if name in self.__dict__:
                chosen.__dict__[name] = self.__dict__[name][:, rows][:, :, rows]
        return chosen

    def layer(self, projection: str, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns one tensor of all anchors: float32[A, in, R] and float32[A, R, out]."""
        rank = self.shapes[projection].rank
        pairs = [read_layer(tree, projection, layer, rank) for tree in self._trees]
        return np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])

    def _over_tensors(self, function: Callable[[np.ndarray, np.ndarray], _Out]) -> list[_Out]:
        """Returns a function's values at `layer(...)` of each tensor in the order of `tensors`."""
        return list(over_tensors(lambda tensor: function(*self.layer(*tensor)), self.tensors))

    @functools.cached_property
    def blocks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """`gram.block_grams` of each tensor: 8 (A R)^2 bytes a tensor, kept once computed."""
        return self._over_tensors(lambda a, b: gram.block_grams(a, b, a, b))

    @functools.cached_property
    def frame(self) -> Frame:
        """Orthonormal bases of all factors: as many bytes as the anchors, kept once computed."""
        return Frame(self.tensors, self._over_tensors(orthonormal_bases))

    @functools.cached_property
    def delta_gram(self) -> np.ndarray:
        """Inner products of the anchors' updates, float64[P, A, A].

        Raises:
          InputError: if an adapter holds NaN or infinity; names task and tensor.
        """
        return self._checked([gram.delta_products(*blocks) for blocks in self.blocks])

    @functools.cached_property
    def factor_gram(self) -> np.ndarray:
        """Inner products of the anchors' flattened factors, float64[P, A, A].

        Raises:
          InputError: as `delta_gram`.
        """
        return self._checked(self._over_tensors(lambda a, b: gram.factor_products(a, b, a, b)))

    @functools.cached_property
    def cosines(self) -> np.ndarray:
        """`gram.cosines` between the anchors, float64[3, P, A, A].

        Raises:
          InputError: as `delta_gram`.
        """
        _ = self.delta_gram  # checks that everything is finite
        parts = []
        for inner, outer in self.blocks:
            own = np.einsum('arap->arp', inner), np.einsum('arap->arp', outer)
            parts.append(np.asarray(gram.cosines((inner, outer), own, own), np.float64))
        return np.stack(parts, axis=1)

    @property
    def mean_norm(self) -> float:
        """Mean over the anchors of the norm of all their updates together."""
        return float(np.sqrt(self.delta_gram.sum(0).diagonal()).mean())

    def gram(self, space: str) -> np.ndarray:
        """Returns `factor_gram` or `delta_gram`."""
        return self.factor_gram if space == 'factor' else self.delta_gram

    def _checked(self, grams: Sequence[np.ndarray]) -> np.ndarray:
        """Stacks Gram matrices; NaN or infinity in a factor shows on their diagonals."""
        stacked = np.stack([np.asarray(matrix, np.float64) for matrix in grams])
        bad = np.argwhere(~np.isfinite(np.einsum('ptt->pt', stacked)))
        if bad.size:
            raise InputError(f'{self._name(bad[0, 1])}: {not_finite(*self.tensors[bad[0, 0]])}')
        return stacked


AnchorSource = Mapping[str, AdapterSource] | Anchors


def read_pair(
    source_adapters: AnchorSource, target_adapters: AnchorSource
) -> tuple[Anchors, Anchors]:
    """Returns the anchors of both models after checking that their tasks agree.

    Values that already are `Anchors` pass through, so their Gram matrices are shared.

    Raises:
      InputError: if the two sides have no task in common, or one has a task the other lacks.
    """
    source = _as_anchors(source_adapters, 'source')
    target = _as_anchors(target_adapters, 'target')
    if not set(source.tasks) & set(target.tasks):
        raise InputError(
            f'source and target adapters have no common task: {list(source.tasks)} '
            f'and {list(target.tasks)}'
        )
    for here, there in ((source, target), (target, source)):
        missing = sorted(set(here.tasks) - set(there.tasks))
        if missing:
            raise InputError(f'{there.side} adapters lack {missing}, which {here.side} has')
    return source, target


def _as_anchors(adapters: AnchorSource, side: str) -> Anchors:
    return adapters if isinstance(adapters, Anchors) else Anchors(adapters, side)
