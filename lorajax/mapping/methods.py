"""The table of mapping methods: all that is known of each stands in its row."""

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable

from lorajax.errors import InputError
from lorajax.io.reading import shorten
from lorajax.mapping import combination, plugins
from lorajax.mapping.anchor_weights import AnchorWeighting, KernelWeighting
from lorajax.mapping.anchors import Anchors
from lorajax.mapping.baselines import data_free
from lorajax.mapping.baselines.prior_correction import PriorCorrection
from lorajax.mapping.kernel_alignment import KernelAlignment
from lorajax.mapping.layout import Layout
from lorajax.mapping.mlp import neural_network
from lorajax.mapping.options import BaseModelArrays, Options
from lorajax.mapping.pca import principal_components
from lorajax.mapping.queries import Queries
from lorajax.mapping.solvers import constant, kernel_ridge, misassigned, nearest, projection, scaled
from lorajax.mapping.stacking import Stacking
from lorajax.mapping.state import MappingState, Prediction
from lorajax.mapping.topk import topk_ridge


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of `METHODS`.

    Attributes:
      summary: one line for tables and model cards.
      reference: where it comes from.
      fit: (source, target, options, base models) -> state.
      predict: (state, queries, output_rank) -> Prediction of each query.
      layout: what a fitted mapping consists of.
      any_rank: adapters may differ in rank, since only their updates are looked at.
      is_learned: counts as a learned method in the seed's headline; False for references.
      needs: fields of `BaseModelArrays` that must be given to `fit`; () for adapters alone.
      query_side: 'target' for diagnostics that are shown the true target adapter.
    """

    summary: str
    reference: str
    fit: Callable[[Anchors, Anchors, Options, BaseModelArrays], MappingState]
    predict: Callable[[MappingState, Queries, int], list[Prediction]]
    layout: Layout
    any_rank: bool
    is_learned: bool = True
    query_side: str = 'source'
    needs: tuple[str, ...] = ()


_SEED = "the seed's Round 4"
_TRIVIAL = 'trivial baseline (OpenReview vt77NBTZhH)'
_OURS = 'ours'
_DUAL = 'kernel ridge (Saunders et al. 1998) on updates'
_WEIGHTS = ('source_weights', 'target_weights')
_ACTIVATIONS = ('source_inputs', 'target_inputs', 'source_outputs', 'target_outputs')


def weighting_method(
    summary: str, reference: str, weighting: AnchorWeighting, is_learned: bool = True
) -> Method:
    """Returns a method that predicts weighted sums of the target's anchors.

    Args:
      summary: one line for tables and model cards.
      reference: where it comes from.
      weighting: how the anchors are weighted, such as a `KernelWeighting` of a `Solver`.
      is_learned: see `Method`.
    """
    return Method(
        summary=summary,
        reference=reference,
        fit=lambda source, target, options, _: combination.fit(weighting, source, target, options),
        predict=functools.partial(combination.predict, weighting),
        layout=combination.layout(weighting),
        any_rank=weighting.space == 'delta',
        is_learned=is_learned,
    )


@functools.cache
def _topk(count: int | None, scope: str) -> Method:
    """A method `topk{K}_global_ridge` or `topk{K}_pertensor_ridge`."""
    return weighting_method(
        f'{scope} ridge on the {count or "K"} nearest anchors (Round 4)',
        _SEED,
        KernelWeighting(topk_ridge(count), 'factor', scope=scope.removeprefix('per')),
    )


def _data_free(
    summary: str, reference: str, maker: data_free.Maker, needs: tuple[str, ...] = ()
) -> Method:
    """A method of `baselines.data_free`."""
    return Method(
        summary=summary,
        reference=reference,
        fit=lambda source, target, options, base_models: data_free.fit(
            maker, source, target, data_free.Inputs(options, base_models)
        ),
        predict=data_free.predict,
        layout=data_free.LAYOUT,
        any_rank=True,
        needs=needs,
    )


def _prior_correction(
    summary: str, reference: str, maker: data_free.Maker, needs: tuple[str, ...]
) -> Method:
    """A method of `baselines.prior_correction`."""
    parts = PriorCorrection(maker, KernelAlignment())
    return Method(
        summary=summary,
        reference=reference,
        fit=parts.fit,
        predict=parts.predict,
        layout=parts.layout,
        any_rank=True,
        needs=needs,
    )


def _stacking(summary: str, reference: str, **weightings: AnchorWeighting) -> Method:
    """A method of `stacking`, with the bilinear map as one part."""
    parts = Stacking(weightings, has_bilinear=True)
    return Method(
        summary=summary,
        reference=reference,
        fit=lambda source, target, options, _: parts.fit(source, target, options),
        predict=parts.predict,
        layout=parts.layout,
        any_rank=True,
    )


def _span_oracle(scope: str) -> Method:
    """The projection of the true target adapter on the anchors' combinations."""
    weighting = KernelWeighting(projection(), 'delta', 'trace', scope)
    return Method(
        summary=f'diagnostic: true target adapter, projected on the anchors ({scope} weights)',
        reference=_OURS,
        fit=lambda _, target, options, __: combination.fit(weighting, target, target, options),
        predict=functools.partial(combination.predict, weighting),
        layout=combination.layout(weighting),
        any_rank=True,
        is_learned=False,
        query_side='target',
    )


def _on_updates(normalise: str, scope: str = 'global') -> KernelWeighting:
    """Kernel ridge on updates."""
    return KernelWeighting(kernel_ridge(fall_back=True), 'delta', normalise, scope)


METHODS: dict[str, Method] = {
    'zero': weighting_method(
        'no adapter at all',
        _TRIVIAL,
        KernelWeighting(constant(0.0), 'factor'),
        is_learned=False,
    ),
    'mean': weighting_method(
        "mean of the anchors' factors (Round 4)",
        _SEED,
        KernelWeighting(constant(1.0), 'factor'),
        is_learned=False,
    ),
    'mean_delta': weighting_method(
        "mean of the anchors' updates",
        _TRIVIAL,
        KernelWeighting(constant(1.0), 'delta'),
        is_learned=False,
    ),
    'scaled_mean': weighting_method(
        'mean update times the scale that leave-one-out finds best',
        _TRIVIAL,
        KernelWeighting(scaled(constant(1.0), alike=False), 'delta', 'trace', equal_tensors=False),
        is_learned=False,
    ),
    'nearest': weighting_method(
        "target adapter of the nearest anchor, by cosine of the source's updates",
        _TRIVIAL,
        KernelWeighting(nearest(), 'delta', 'trace'),
        is_learned=False,
    ),
    'placebo': weighting_method(
        'delta_ridge with its weights given to the wrong tasks',
        _TRIVIAL,
        KernelWeighting(misassigned(kernel_ridge(fall_back=True)), 'delta', 'trace'),
        is_learned=False,
    ),
    'pad_truncate': dataclasses.replace(
        _data_free(
            'source factors cut or padded to the target',
            'github.com/hamehrabi/ual_adapter',
            data_free.make_pad_truncate,
        ),
        is_learned=False,
    ),
    'global_ridge': weighting_method(
        'one ridge on all flattened factors (Round 4)',
        _SEED,
        KernelWeighting(kernel_ridge(fall_back=False), 'factor'),
    ),
    'pertensor_ridge': weighting_method(
        'one ridge per tensor on flattened factors (Round 4)',
        _SEED,
        KernelWeighting(kernel_ridge(fall_back=False), 'factor', scope='tensor'),
    ),
    'topk8_global_ridge': _topk(8, 'global'),
    'topk8_pertensor_ridge': _topk(8, 'pertensor'),
    'pertensor_mlp': weighting_method(
        'one small neural network per tensor on flattened factors (Round 4)',
        _SEED,
        KernelWeighting(neural_network(), 'factor', scope='tensor'),
    ),
    'pertensor_pca': weighting_method(
        "ridge per tensor onto principal components of the target's factors (HF8qoeEo1u)",
        'OpenReview HF8qoeEo1u',
        KernelWeighting(principal_components(), 'factor', scope='tensor'),
    ),
    'delta_ridge': weighting_method(
        'kernel ridge on updates, tensors trace-normalised', _DUAL, _on_updates('trace')
    ),
    'delta_cosine_ridge': weighting_method(
        'kernel ridge on updates, every tensor of every adapter scaled to norm 1',
        _DUAL,
        _on_updates('cosine'),
    ),
    'delta_module_ridge': weighting_method(
        'kernel ridge on updates, one kernel per projection', _DUAL, _on_updates('trace', 'module')
    ),
    'delta_tensor_ridge': weighting_method(
        'kernel ridge on updates, one kernel per tensor', _DUAL, _on_updates('trace', 'tensor')
    ),
    'delta_hierarchical_ridge': weighting_method(
        'kernel ridge on updates, global and per-tensor kernels mixed by leave-one-out',
        f'{_DUAL}; Evgeniou and Pontil 2004',
        _on_updates('trace', 'hierarchical'),
    ),
    'delta_scaled_ridge': weighting_method(
        'delta_ridge times the scale that leave-one-out finds best',
        _DUAL,
        KernelWeighting(scaled(kernel_ridge(fall_back=True)), 'delta', 'trace'),
    ),
    'matched_ridge': weighting_method(
        'kernel ridge on updates, kernels per tensor mixed to match the target',
        f'{_OURS}; Cortes, Mohri, Rostamizadeh 2012',
        KernelAlignment(),
    ),
    'matched_scaled': weighting_method(
        'matched_ridge with a small fixed penalty, lengthened where averages are short',
        f'{_OURS}; Cortes, Mohri, Rostamizadeh 2012',
        # Both numbers were chosen on toy worlds that the contest does not use.
        KernelAlignment(relative_penalty=0.03, norm_share=0.6),
    ),
    'delta_pca': weighting_method(
        "ridge per tensor onto principal components of the target's updates",
        'OpenReview HF8qoeEo1u, on updates',
        KernelWeighting(principal_components(), 'delta', 'trace', 'tensor'),
    ),
    'bilinear': _stacking(
        'bilinear map over several source layers, by alternating ridge',
        f'{_OURS}; Wold 1966 (alternating least squares)',
    ),
    'bilinear_ridge': _stacking(
        'bilinear map and delta_ridge, stacked by left-out predictions',
        f'{_OURS}; Breiman 1996 (stacking)',
        delta_ridge=_on_updates('trace'),
    ),
    'stacked': _stacking(
        'matched_ridge, delta_hierarchical_ridge and bilinear, stacked by left-out predictions',
        f'{_OURS}; Breiman 1996 (stacking)',
        matched_ridge=KernelAlignment(),
        delta_hierarchical_ridge=_on_updates('trace', 'hierarchical'),
    ),
    'cross_lora': _data_free(
        'leading subspaces of the base weights aligned by order (Cross-LoRA)',
        'arXiv 2508.05232',
        data_free.make_cross_lora,
        _WEIGHTS,
    ),
    'lora_x': _data_free(
        "projection on the target's leading subspaces where widths agree (LoRA-X)",
        'arXiv 2501.16559',
        data_free.make_lora_x,
        _WEIGHTS,
    ),
    'theseus': _data_free(
        'orthogonal Procrustes on activations of shared text (Theseus)',
        'arXiv 2602.12952',
        data_free.make_theseus,
        _ACTIVATIONS,
    ),
    'activation_ridge': _data_free(
        'ridge regression on activations of shared text',
        _OURS,
        data_free.make_state_ridge,
        _ACTIVATIONS,
    ),
    'anchored_theseus': _prior_correction(
        'Theseus as prior, corrected by what it misses on the anchors',
        f'{_OURS}; arXiv 2602.12952',
        data_free.make_theseus,
        _ACTIVATIONS,
    ),
    'span_oracle': _span_oracle('global'),
    'span_oracle_tensor': _span_oracle('tensor'),
}


DEFAULT = 'matched_scaled'
# Among these, which take adapters of any rank and all weigh anchors, left-out anchors choose.
CANDIDATES = (DEFAULT, 'matched_ridge', 'delta_hierarchical_ridge', 'delta_ridge')


def method_named(name: str) -> Method:
    """Returns a method by name: of the table, a top-k method of any K, or of another package.

    Raises:
      InputError: if there is none; suggests the closest name.
    """
    if name in METHODS:
        return METHODS[name]
    if match := re.fullmatch(r'topk([1-9]\d*)?_(global|pertensor)_ridge', name):
        return _topk(int(match[1]) if match[1] else None, match[2])
    offered = plugins.load(name)
    if isinstance(offered, Method):
        return offered
    if offered is not None:
        raise InputError(
            f'mapping method {name!r}: a package offers {shorten(repr(offered), 60)}, expected a '
            'lorajax.mapping.Method'
        )
    known = [*METHODS, *plugins.names()]
    close = difflib.get_close_matches(name, known, 1)
    hint = f'did you mean {close[0]!r}?' if close else f'expected one of {known}'
    raise InputError(f'unknown mapping method {shorten(repr(name), 60)}: {hint}')
