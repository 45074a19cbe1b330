"""Adapters of one model: checked once, then read one layer of one projection at a time.

A mapping sees adapters only through `Anchors`, so nothing here needs all of them in memory:
leaves may be numpy memory maps or any object with a `shape` and first-axis indexing.

Axes: A adapters (tasks), L layers, R rank; P counts tensors, that is pairs of projection and
layer, projections in the order of `TARGETS` and layers within them.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lorajax.errors import InputError
from lorajax.lora.config import TARGETS
from lorajax.mapping import gram
from lorajax.mapping.subspace import Basis, Frame, orthonormal_bases
from lorajax.types import Adapter, Array

AdapterSource = Adapter | Callable[[], Adapter]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of one projection's factors: a is [layers, n_in, rank], b [layers, rank, n_out]."""

    layers: int
    n_in: int
    rank: int
    n_out: int


def read_shapes(adapter: Adapter, name: str) -> dict[str, Shape]:
    """Returns the shape of every projection of an adapter, in the order of `TARGETS`.

    Args:
      adapter: an adapter tree; leaves need only a `shape`.
      name: what to call the adapter in messages.

    Raises:
      InputError: if the tree is not an adapter or the shapes of a pair of factors disagree.
    """
    layers = adapter.get('layers') if isinstance(adapter, Mapping) else None
    if not isinstance(layers, Mapping) or not layers:
        raise InputError(f"{name}: expected an adapter tree {{'layers': {{projection: ...}}}}")
    for projection in layers:
        if projection not in TARGETS:
            close = difflib.get_close_matches(str(projection), TARGETS, 1)
            hint = f'; did you mean {close[0]}?' if close else ''
            raise InputError(f'{name}: unknown projection {projection!r}{hint}')
    return {p: _read_shape(layers[p], f'{name}: {p}') for p in TARGETS if p in layers}


def _read_shape(factors: Any, name: str) -> Shape:
    """Shape of one projection; refuses factors that cannot be multiplied layer by layer."""
    if not isinstance(factors, Mapping) or set(factors) != {'a', 'b'}:
        raise InputError(f"{name}: expected the two factors 'a' and 'b'")
    a, b = (tuple(getattr(factors[key], 'shape', ())) for key in 'ab')
    if len(a) != 3 or len(b) != 3 or a[0] != b[0] or a[2] != b[1] or 0 in a + b:
        raise InputError(f'{name}: expected a [L, in, R] and b [L, R, out], got {a} and {b}')
    return Shape(layers=a[0], n_in=a[1], rank=a[2], n_out=b[2])


def read_layer(adapter: Adapter, projection: str, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the factors of one tensor: float32[in, R] and float32[R, out]."""
    factors = adapter['layers'][projection]
    return tuple(np.asarray(factors[key][layer], np.float32) for key in 'ab')  # type: ignore


def check_matches(
    shapes: Mapping[str, Shape], expected: Mapping[str, Shape], name: str, any_rank: bool
) -> None:
    """Raises `InputError` if an adapter does not have the expected projections and shapes.

    Args:
      shapes: of the adapter.
      expected: of the anchors.
      name: what to call the adapter in messages.
      any_rank: accept another rank, for methods that see only the product of the factors.
    """
    if set(shapes) != set(expected):
        raise InputError(f'{name}: expected projections {list(expected)}, got {list(shapes)}')
    for projection, want in expected.items():
        got = shapes[projection]
        if any_rank:
            got = dataclasses.replace(got, rank=want.rank)
        if got != want:
            raise InputError(f'{name}: {projection}: expected {want}, got {shapes[projection]}')


def not_finite(projection: str, layer: int) -> str:
    """Returns the message for a tensor whose inner products are not finite."""
    return (
        f'{projection} layer {layer} holds NaN, infinity or values whose square overflows '
        'float32; expected finite numbers'
    )


class Anchors:
    """The adapters of one model that a mapping is fitted on, tasks in sorted order."""

    def __init__(self, adapters: Mapping[str, AdapterSource], side: str):
        """Checks that all adapters have the same projections, shapes and rank.

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
        self.shapes = read_shapes(self._trees[0], self._name(0))
        for index, tree in enumerate(self._trees):
            name = self._name(index)
            check_matches(read_shapes(tree, name), self.shapes, name, any_rank=False)

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

    def subset(self, tasks: Sequence[str]) -> 'Anchors':
        """Returns some of the anchors; inner products known here are not computed again.

        Raises:
          InputError: if one of `tasks` is no anchor.
        """
        unknown = sorted(set(tasks) - set(self.tasks))
        if unknown:
            raise InputError(f'no {self.side} adapter {unknown}, expected some of {self.tasks}')
        picked = Anchors({task: self.trees[task] for task in tasks}, self.side)
        rows = [self.tasks.index(task) for task in picked.tasks]
        for name in ('delta_gram', 'factor_gram'):
            if name in self.__dict__:
                picked.__dict__[name] = self.__dict__[name][:, rows][:, :, rows]
        return picked

    def layer(self, projection: str, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns one tensor of all anchors: float32[A, in, R] and float32[A, R, out]."""
        pairs = [read_layer(tree, projection, layer) for tree in self._trees]
        return np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])

    def stream(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields `layer(...)` for each tensor in the order of `tensors`."""
        for projection, layer in self.tensors:
            yield self.layer(projection, layer)

    @functools.cached_property
    def blocks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """`gram.block_grams` of each tensor: 8 (A R)^2 bytes a tensor, kept once computed."""
        return [
            tuple(np.asarray(block) for block in gram.block_grams(a, b, a, b))  # type: ignore
            for a, b in self.stream()
        ]

    @functools.cached_property
    def frame(self) -> Frame:
        """Orthonormal bases of all factors: as many bytes as the anchors, kept once computed."""
        bases = [Basis(*map(np.asarray, orthonormal_bases(a, b))) for a, b in self.stream()]
        return Frame(self.tensors, bases)

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
        return self._checked([gram.factor_products(a, b, a, b) for a, b in self.stream()])

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

    def query_cosines(self, queries: Sequence[Adapter]) -> np.ndarray:
        """Returns `gram.cosines` of checked queries of any rank with the anchors.

        Returns:
          float64[C, 3, P, A].

        Raises:
          InputError: if a query holds NaN or infinity.
        """
        parts = np.empty((len(queries), 3, len(self.tensors), len(self)))
        for p, ((projection, layer), (a, b)) in enumerate(
            zip(self.tensors, self.stream(), strict=True)
        ):
            own = gram.own_grams(a, b)
            for c, query in enumerate(queries):
                x, y = (factor[None] for factor in read_layer(query, projection, layer))
                other = gram.own_grams(x, y)
                if not all(np.isfinite(part).all() for part in other):
                    raise InputError(f'query adapter: {not_finite(projection, layer)}')
                blocks = gram.block_grams(a, b, x, y)
                parts[c, :, p] = np.asarray(gram.cosines(blocks, own, other))[..., 0]
        return parts

    @property
    def mean_norm(self) -> float:
        """Mean over the anchors of the norm of all their updates together."""
        return float(np.sqrt(self.delta_gram.sum(0).diagonal()).mean())

    def gram(self, space: str) -> np.ndarray:
        """Returns `factor_gram` or `delta_gram`."""
        return self.factor_gram if space == 'factor' else self.delta_gram

    def _checked(self, grams: Sequence[Array]) -> np.ndarray:
        """Stacks Gram matrices; NaN or infinity in a factor shows on their diagonals."""
        stacked = np.stack([np.asarray(matrix, np.float64) for matrix in grams])
        bad = np.argwhere(~np.isfinite(np.einsum('ptt->pt', stacked)))
        if bad.size:
            raise InputError(f'{self._name(bad[0, 1])}: {not_finite(*self.tensors[bad[0, 0]])}')
        return stacked

    def cross(self, queries: Sequence[Adapter], space: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns inner products of checked queries with the anchors and with themselves.

        Args:
          queries: adapters with the anchors' shapes (of any one rank if `space` is 'delta').
          space: 'factor' or 'delta'.

        Returns:
          float64[C, P, A] and float64[C, P].

        Raises:
          InputError: if a query holds NaN or infinity.
        """
        cross, own = [], []
        for (projection, layer), (a, b) in zip(self.tensors, self.stream(), strict=True):
            for query in queries:
                x, y = (factor[None] for factor in read_layer(query, projection, layer))
                cross.append(gram.inner_products(space, a, b, x, y)[:, 0])
                own.append(gram.inner_products(space, x, y, x, y)[0, 0])
                if not np.isfinite(own[-1]):
                    raise InputError(f'query adapter: {not_finite(projection, layer)}')
        shape = len(self.tensors), len(queries)
        return (
            np.reshape(cross, (*shape, len(self))).swapaxes(0, 1),
            np.reshape(own, shape).swapaxes(0, 1),
        )


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
