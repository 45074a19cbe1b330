"""Adapters to be translated: checked once, compared with anchors tensor by tensor."""

from collections.abc import Mapping

import numpy as np

from lorajax.errors import InputError
from lorajax.mapping import gram
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.shapes import (
    Shapes,
    check_matches,
    not_finite,
    read_layer,
    read_shapes,
    widest,
)
from lorajax.mapping.tensor_loop import over_tensors
from lorajax.types import Adapter

_Pair = tuple[np.ndarray, np.ndarray]


class Queries:
    """Adapters of one model by name, C of them.

    Inner products with anchors are kept once computed, so a `Queries` may be shared by several
    mappings that were fitted on the same `Anchors`; the adapters must not be changed in the
    meantime. Adapters of lower rank than the widest count as if they had zeros there.
    """

    def __init__(self, adapters: Mapping[str, Adapter]):
        """Reads the shapes.

        Raises:
          InputError: if there is none, or one is no adapter.
        """
        if not adapters:
            raise InputError('no adapters to translate, expected at least one')
        self.names = tuple(adapters)
        self._trees = list(adapters.values())
        self._shapes = [read_shapes(tree, f'query {name}') for name, tree in adapters.items()]
        self._products: dict[tuple[Anchors, str], tuple[np.ndarray, np.ndarray]] = {}
        self._cosines: dict[Anchors, _Pair] = {}

    def __len__(self) -> int:
        return len(self.names)

    def check(self, expected: Shapes, any_rank: bool) -> None:
        """Refuses adapters of other shapes than the anchors'; see `shapes.check_matches`."""
        for name, shapes in zip(self.names, self._shapes, strict=True):
            check_matches(shapes, expected, f'query {name}', any_rank)

    def layer(self, projection: str, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns one tensor of all queries: float32[C, in, Q] and float32[C, Q, out]."""
        rank = widest(self._shapes)[projection].rank
        pairs = [read_layer(tree, projection, layer, rank) for tree in self._trees]
        return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])

    def products(self, anchors: Anchors, space: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns inner products with the anchors, and of each query with itself.

        Args:
          anchors: of the queries' shapes (of any rank if `space` is 'delta').
          space: 'factor' or 'delta', see `gram`.

        Returns:
          float64[C, P, A] and float64[C, P].

        Raises:
          InputError: if a query holds NaN or infinity.
        """
        key = anchors, space
        if key not in self._products:

            def one(tensor: tuple[str, int]) -> _Pair:
                return gram.cross_products(space, *anchors.layer(*tensor), *self.layer(*tensor))

            pairs = list(over_tensors(one, anchors.tensors))
            cross = np.stack([with_anchors.T for with_anchors, _ in pairs], axis=1)
            own = np.stack([with_self for _, with_self in pairs], axis=1)
            self.check_finite(own, anchors.tensors)
            self._products[key] = cross, own
        return self._products[key]

    def cosines(self, anchors: Anchors) -> _Pair:
        """Returns `gram.cosines` with the anchors, and the cosine of each query with itself.

        Returns:
          float64[C, 3, P, A], and float64[C, P]: 1, but 0 where a query's update is zero.

        Raises:
          InputError: if a query holds NaN or infinity.
        """
        if anchors not in self._cosines:

            def grams(tensor: tuple[str, int]) -> tuple[_Pair, _Pair, _Pair]:
                a, b, x, y = *anchors.layer(*tensor), *self.layer(*tensor)
                return gram.block_grams(a, b, x, y), gram.own_grams(a, b), gram.own_grams(x, y)

            parts = list(over_tensors(grams, anchors.tensors))
            sizes = [np.einsum('crr->c', x) + np.einsum('crr->c', y) for _, _, (x, y) in parts]
            self.check_finite(np.stack(sizes, axis=1), anchors.tensors)
            cosines = np.stack([gram.cosines(*part) for part in parts], axis=2)  # 3 A P C
            squares = [np.einsum('crq,crq->c', x, y, dtype=np.float64) for *_, (x, y) in parts]
            own = (np.stack(squares, axis=1) > 0).astype(np.float64)
            self._cosines[anchors] = cosines.transpose(3, 0, 2, 1).astype(np.float64), own
        return self._cosines[anchors]

    def check_finite(self, values: np.ndarray, tensors: list[tuple[str, int]]) -> None:
        """Refuses queries that hold NaN or infinity.

        Args:
          values: float[C, P], finite where the tensor is.
          tensors: projection and layer along P.

        Raises:
          InputError: naming query and tensor.
        """
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            raise InputError(f'query {self.names[bad[0, 0]]}: {not_finite(*tensors[bad[0, 1]])}')
