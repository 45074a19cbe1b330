"""Mappings that carry one source tensor to one target tensor by two fixed linear maps.

  a_y = L_in (R_in^T a_x),   b_y = (b_x R_out) L_out^T

for the source tensor of the same projection at equal depth. The two maps, each in factored form,
come from base weights alone (Cross-LoRA, LoRA-X), from activations on shared text (Theseus,
ridge), or from nothing at all (pad and truncate). No adapter of the target is needed; the anchors
only serve to score the mapping.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lorajax.errors import InputError
from lorajax.mapping import gram, layer_alignment, scores
from lorajax.mapping.anchors import Anchors, Shape, not_finite, read_layer
from lorajax.mapping.gram import einsum
from lorajax.mapping.options import Extras, Options
from lorajax.mapping.state import Fitted, Prediction
from lorajax.mapping.subspace import lost_share, signed, stack_layers, update_norm, with_rank
from lorajax.types import Adapter, Array


class SideMap(NamedTuple):
    """A linear map from source to target features in factored form, left @ right.T."""

    left: Array  # float32[target features, D]
    right: Array  # float32[source features, D]


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
    extras: Extras

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
            stack = getattr(self.extras, name).get(pair.projection)
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


Maker = Callable[[Pair, Inputs], tuple[SideMap, SideMap]]


def cross_lora(source: Array, target: Array, rank: int) -> tuple[SideMap, SideMap]:
    """Maps between the leading singular subspaces of two base weights.

    The paper's alignment, U_t U_s^T and V_t V_s^T, pairs singular vectors by their order, and
    each pair is defined only up to a joint sign: the paper states no rule. Here the entry of
    largest magnitude of each input-side vector is positive.

    Args:
      source, target: float32[in, out] kernels of one projection.
      rank: of the truncation, 320 in the paper; less where a kernel is smaller.

    Source: Cross-LoRA (arXiv 2508.05232), section 3.
    """
    rank = min(rank, *source.shape, *target.shape)
    u_s, v_s = _leading_vectors(source, rank)
    u_t, v_t = _leading_vectors(target, rank)
    return SideMap(u_t, u_s), SideMap(v_t, v_s)


def lora_x(
    source: Array, target: Array, rank: int, min_similarity: float
) -> tuple[SideMap, SideMap]:
    """Projects onto the target's leading subspaces where widths agree, else as `cross_lora`.

    A side of equal width keeps the update's own coordinates: U_t U_t^T. A tensor whose
    subspaces of equal width are less similar than `min_similarity`, |U_s^T U_t|^2 / rank, is
    skipped: its maps are zero.

    Source: LoRA-X (arXiv 2501.16559), equations 4 to 6.
    """
    aligned = cross_lora(source, target, rank)
    projected = []
    for left, right in aligned:
        if left.shape == right.shape:
            similarity = float(jnp.sum(einsum('ir,is->rs', left, right) ** 2)) / left.shape[1]
            left = left if similarity >= min_similarity else 0.0 * left
            right = left
        projected.append(SideMap(left, right))
    inner, outer = projected
    return inner, outer


def procrustes(source: Array, target: Array) -> SideMap:
    """Maps by the partial isometry nearest to carrying source states onto target states.

    With the polar factor of H_t^T H_s, that is U V^T of its singular value decomposition.

    Args:
      source, target: float32[S, features], states of the same S positions of shared text.

    Source: Schoenemann 1966; Theseus (arXiv 2602.12952) uses it for adapters.
    """
    q_s, r_s = jnp.linalg.qr(jnp.asarray(source).T)
    q_t, r_t = jnp.linalg.qr(jnp.asarray(target).T)
    u, s, vt = jnp.linalg.svd(einsum('ms,ns->mn', r_t, r_s), full_matrices=False)
    is_used = s > 1e-6 * s[0]
    return SideMap(
        einsum('im,md->id', q_t, u * is_used),
        einsum('in,dn->id', q_s, vt),
    )


def state_ridge(explained: Array, given: Array, penalty: float) -> tuple[Array, Array]:
    """Ridge regression of states on states in factored form: explained ~ given @ p @ q.T.

    Args:
      explained: float32[S, E].
      given: float32[S, G].
      penalty: relative to the mean squared singular value of `given`.

    Returns:
      p float32[G, D] and q float32[E, D].
    """
    u, s, vt = jnp.linalg.svd(given, full_matrices=False)
    shrunk = s / (s**2 + penalty * jnp.mean(s**2))
    return vt.T * shrunk, einsum('se,sd->ed', explained, u)


def pad_or_cut(shape_x: int, shape_y: int) -> SideMap:
    """Keeps the first features and pads with zeros, scaled by (n_x / n_y)^(1/4).

    Both sides together scale the update by (in_x out_x / (in_y out_y))^(1/4).

    Source: the idea of github.com/hamehrabi/ual_adapter.
    """
    common = min(shape_x, shape_y)
    scale = (shape_x / shape_y) ** 0.25
    return SideMap(
        scale * np.eye(shape_y, common, dtype=np.float32), np.eye(shape_x, common, dtype=np.float32)
    )


def make_pad_truncate(pair: Pair, inputs: Inputs) -> tuple[SideMap, SideMap]:
    """See `pad_or_cut`."""
    source, target = pair.source_shape, pair.target_shape
    return pad_or_cut(source.n_in, target.n_in), pad_or_cut(source.n_out, target.n_out)


def make_cross_lora(pair: Pair, inputs: Inputs) -> tuple[SideMap, SideMap]:
    """See `cross_lora`."""
    return cross_lora(*inputs.kernels(pair), inputs.options.base_rank)


def make_lora_x(pair: Pair, inputs: Inputs) -> tuple[SideMap, SideMap]:
    """See `lora_x`."""
    return lora_x(*inputs.kernels(pair), inputs.options.base_rank, inputs.options.min_similarity)


def make_theseus(pair: Pair, inputs: Inputs) -> tuple[SideMap, SideMap]:
    """Orthogonal Procrustes on inputs and on outputs; see `procrustes`."""
    return procrustes(*inputs.states(pair, 'inputs')), procrustes(*inputs.states(pair, 'outputs'))


def make_state_ridge(pair: Pair, inputs: Inputs) -> tuple[SideMap, SideMap]:
    """Source inputs explained by target inputs, target outputs by source outputs.

    What the source adapter adds, x_s a b, is read off the target's own state and written in
    the target's own coordinates: x_s ~ x_t R and y_t ~ y_s S give a_y = R a and b_y = b S.
    """
    penalty = inputs.options.state_penalty
    source, target = inputs.states(pair, 'inputs')
    p, q = state_ridge(source, target, penalty)
    inner = SideMap(p, q)
    source, target = inputs.states(pair, 'outputs')
    p, q = state_ridge(target, source, penalty)
    return inner, SideMap(q, p)


def fit(maker: Maker, source: Anchors, target: Anchors, inputs: Inputs) -> Fitted:
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
    per_tensor, layers = [], []
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
        layers.append(match)
        x, y = carry(per_tensor[-1], *source.layer(projection, match))
        a, b = target.layer(projection, layer)
        products[index] = gram.inner_products('delta', a, b, x, y).diagonal()
        norms[index] = gram.inner_products('delta', x, y, x, y).diagonal()
    info = {
        **scores.report(products, norms, target.delta_gram),
        'mean_anchor_norm': target.mean_norm,
    }
    return Fitted(target.tensors, {'source_layer': np.array(layers)}, info, per_tensor)


def predict(fitted: Fitted, queries: Sequence[Adapter], output_rank: int) -> list[Prediction]:
    """Translates checked adapters; see `span.predict`."""
    return [_predict_one(fitted, query, output_rank) for query in queries]


@jax.jit
def carry(maps: dict[str, jax.Array], a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Carries factors [..., in_x, R] and [..., R, out_x] over to the target's widths."""
    inner = einsum('id,jd,...jr->...ir', maps['in_left'], maps['in_right'], a)
    outer = einsum('...rj,jd,id->...ri', b, maps['out_right'], maps['out_left'])
    return inner, outer


def _predict_one(fitted: Fitted, query: Adapter, rank: int) -> Prediction:
    """Translates one adapter."""
    factors, energies = [], []
    layers = fitted.arrays['source_layer'].tolist()
    for (projection, _), layer, maps in zip(fitted.tensors, layers, fitted.per_tensor, strict=True):
        a, b = carry(maps, *read_layer(query, projection, layer))
        x, y, energy = with_rank(a, b, rank)
        if not np.isfinite(energy).all():
            raise InputError(f'query adapter: {not_finite(projection, layer)}')
        factors.append((x, y))
        energies.append(energy)
    adapter = stack_layers(fitted.tensors, factors)
    norm_ratio = update_norm(adapter) / (fitted.info['mean_anchor_norm'] or 1.0)
    return Prediction(adapter, {'norm_ratio': norm_ratio, 'energy_lost': lost_share(energies)})


def _leading_vectors(kernel: Array, rank: int) -> tuple[jax.Array, jax.Array]:
    """Leading singular vectors float32[in, rank] and float32[out, rank], signs fixed."""
    u, _, vt = jnp.linalg.svd(jnp.asarray(kernel, jnp.float32), full_matrices=False)
    u, v = u[:, :rank], vt[:rank].T
    u, signs = signed(u)
    return u, v * signs
