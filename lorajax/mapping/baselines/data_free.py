"""Mappings that carry one source tensor to one target tensor by two fixed linear maps.

  a_y = L_in (R_in^T a_x),   b_y = (b_x R_out) L_out^T

for the source tensor of the same projection at equal depth; see `feature_maps` for the maps. No
adapter of the target is needed: the anchors only serve to score the mapping.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorajax.errors import InputError
from lorajax.mapping import gram, layer_alignment, scores
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.baselines.feature_maps import (
    FeatureMap,
    cross_lora,
    lora_x,
    pad_or_cut,
    procrustes,
    signed_by_states,
    state_ridge,
)
from lorajax.mapping.combination import describe_size
from lorajax.mapping.layout import Layout, indices, numbers
from lorajax.mapping.options import BaseModelArrays, Options
from lorajax.mapping.queries import Queries
from lorajax.mapping.shapes import Shape
from lorajax.mapping.state import MappingState, Prediction
from lorajax.mapping.subspace import assemble, with_rank
from lorajax.types import Array

# Of a mapping; i and o are the source's widths, I and O the target's, D the source's layers.
LAYOUT = Layout(
    arrays={},
    per_tensor={
        'source_layer': indices('', below='D'),
        'in_left': numbers('I K'),
        'in_right': numbers('i K'),
        'out_left': numbers('O L'),
        'out_right': numbers('o L'),
    },
)


class Pair(NamedTuple):
    """A target tensor and the source tensor at equal depth."""

    projection: str
    source_layer: int
    target_layer: int
    source_shape: Shape
    target_shape: Shape


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the makers of maps may look at: options, and arrays of the two base models."""

    options: Options
    arrays: BaseModelArrays

    def kernels(self, pair: Pair) -> tuple[Array, Array]:
        """Returns the base kernels float32[in, out] of source and target."""
        shapes = [(shape.n_in, shape.n_out) for shape in (pair.source_shape, pair.target_shape)]
        return self._pair('weights', pair, shapes)

    def states(self, pair: Pair, which: str) -> tuple[Array, Array]:
        """Returns 'inputs' or 'outputs' float32[S, features] of the projection in both models."""
        field = 'n_in' if which == 'inputs' else 'n_out'
        widths = [getattr(shape, field) for shape in (pair.source_shape, pair.target_shape)]
        source, target = self._pair(which, pair, [(None, width) for width in widths])
        if len(source) != len(target):
            raise InputError(
                f'{which} of {pair.projection}: source has {len(source)} positions, target '
                f'{len(target)}; expected states at the same positions of the same text'
            )
        return source, target

    def _pair(
        self, which: str, pair: Pair, shapes: Sequence[tuple[int | None, int]]
    ) -> tuple[Array, Array]:
        """Reads one kind of array on both sides and checks its shape."""
        layers = pair.source_layer, pair.target_layer
        arrays = []
        for side, layer, shape in zip(('source', 'target'), layers, shapes, strict=True):
            name = f'{side}_{which}'
            stack = getattr(self.arrays, name).get(pair.projection)
            if stack is None:
                raise InputError(f'option {name}: no {pair.projection}, which this method needs')
            array = np.asarray(stack[layer], np.float32)
            if array.ndim != 2 or any(
                want not in (None, got) for want, got in zip(shape, array.shape, strict=True)
            ):
                raise InputError(
                    f'option {name}: {pair.projection} layer {layer}: expected '
                    f'{shape}, got {array.shape}'
                )
            arrays.append(array)
        return arrays[0], arrays[1]


Maker = Callable[[Pair, Inputs], tuple[FeatureMap, FeatureMap]]


def make_pad_truncate(pair: Pair, inputs: Inputs) -> tuple[FeatureMap, FeatureMap]:
    """See `pad_or_cut`."""
    source, target = pair.source_shape, pair.target_shape
    return pad_or_cut(source.n_in, target.n_in), pad_or_cut(source.n_out, target.n_out)


def make_cross_lora(pair: Pair, inputs: Inputs) -> tuple[FeatureMap, FeatureMap]:
    """See `cross_lora`; with `Options.sign` 'activations' see `signed_by_states`, too."""
    inner, outer = cross_lora(*inputs.kernels(pair), inputs.options.base_rank)
    if inputs.options.sign == 'activations':
        inner = signed_by_states(inner, *inputs.states(pair, 'inputs'))
        outer = signed_by_states(outer, *inputs.states(pair, 'outputs'))
    return inner, outer


def make_lora_x(pair: Pair, inputs: Inputs) -> tuple[FeatureMap, FeatureMap]:
    """See `lora_x`."""
    return lora_x(*inputs.kernels(pair), inputs.options.base_rank, inputs.options.min_similarity)


def make_theseus(pair: Pair, inputs: Inputs) -> tuple[FeatureMap, FeatureMap]:
    """Orthogonal Procrustes on inputs and on outputs; see `procrustes`."""
    return procrustes(*inputs.states(pair, 'inputs')), procrustes(*inputs.states(pair, 'outputs'))


def make_state_ridge(pair: Pair, inputs: Inputs) -> tuple[FeatureMap, FeatureMap]:
    """Source inputs explained by target inputs, target outputs by source outputs.

    What the source adapter adds, x_s a b, is read off the target's own state and written in
    the target's own coordinates: x_s ~ x_t R and y_t ~ y_s S give a_y = R a and b_y = b S.
    """
    penalty = inputs.options.state_penalty
    source, target = inputs.states(pair, 'inputs')
    p, q = state_ridge(source, target, penalty)
    inner = FeatureMap(p, q)
    source, target = inputs.states(pair, 'outputs')
    p, q = state_ridge(target, source, penalty)
    return inner, FeatureMap(q, p)


def fit(maker: Maker, source: Anchors, target: Anchors, inputs: Inputs) -> MappingState:
    """Makes the two maps of every target tensor and scores them on the anchors.

    Args:
      maker: makes the maps of one pair of tensors.
      source, target: anchors with equal tasks.
      inputs: options and arrays of the base models.

    Raises:
      InputError: if the target adapts a projection that the source does not, if arrays that
        the method needs are missing or of wrong shape, or an anchor holds NaN or infinity.
    """
    missing = sorted(set(target.shapes) - set(source.shapes))
    if missing:
        raise InputError(f'source adapters lack {missing}, which this method maps one to one')
    per_tensor: list[dict[str, np.ndarray]] = []
    products = np.zeros((len(target.tensors), len(target)))
    norms = np.zeros_like(products)
    for index, (projection, layer) in enumerate(target.tensors):
        shapes = source.shapes[projection], target.shapes[projection]
        match = layer_alignment.matching_layer(layer, shapes[1].layers, shapes[0].layers)
        pair = Pair(projection, match, layer, *shapes)
        inner, outer = maker(pair, inputs)
        maps = {
            'in_left': inner.left,
            'in_right': inner.right,
            'out_left': outer.left,
            'out_right': outer.right,
        }
        per_tensor.append({name: np.asarray(array, np.float32) for name, array in maps.items()})
        per_tensor[-1]['source_layer'] = np.array(match)
        x, y = carry(per_tensor[-1], *source.layer(projection, match))
        cross, own = gram.cross_products('delta', *target.layer(projection, layer), x, y)
        products[index], norms[index] = cross.diagonal(), own
    info = {
        'validation': scores.NO_ANCHOR_NEEDED,
        **scores.report(products, norms, target.delta_gram),
        'mean_anchor_norm': target.mean_norm,
    }
    return MappingState(target.tensors, {}, info, per_tensor)


def predict(state: MappingState, queries: Queries, output_rank: int) -> list[Prediction]:
    """Translates checked adapters; see `combination.predict`."""
    parts, sources = [], []
    for (projection, _), maps in zip(state.tensors, state.per_tensor, strict=True):
        layer = maps['source_layer'].item()
        a, b = carry(maps, *queries.layer(projection, layer))
        parts.append(with_rank(a, b, output_rank))
        sources.append((projection, layer))
    queries.check_finite(np.stack([part.energy.sum(1) for part in parts], axis=1), sources)
    return [
        Prediction(adapter, describe_size(adapter, lost, state.info))
        for adapter, lost in assemble(state.tensors, parts)
    ]


def carry(maps: Mapping[str, Array], a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Carries factors [..., in_x, R] and [..., R, out_x] over to the target's widths."""
    in_left, in_right, out_left, out_right = (
        np.asarray(maps[name]) for name in ('in_left', 'in_right', 'out_left', 'out_right')
    )
    return in_left @ (in_right.T @ a), (b @ out_right) @ out_left.T
