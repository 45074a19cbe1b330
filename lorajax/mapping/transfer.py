"""The one interface of all mappings: fit, predict, save, load, and the table of methods."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorajax import workdir
from lorajax.errors import InputError
from lorajax.mapping import direct, span, storage
from lorajax.mapping.anchors import (
    Anchors,
    AnchorSource,
    Shape,
    check_matches,
    read_pair,
    read_shapes,
)
from lorajax.mapping.blend import Blend
from lorajax.mapping.fitted import Fitted, Prediction
from lorajax.mapping.matched import Matched
from lorajax.mapping.mlp import neural_network
from lorajax.mapping.options import Extras, Options, parse
from lorajax.mapping.pca import principal_components
from lorajax.mapping.rules import (
    constant,
    kernel_ridge,
    misassigned,
    nearest,
    projection,
    scaled,
)
from lorajax.mapping.topk import topk_ridge
from lorajax.mapping.weighing import RuleWeigher, Weigher
from lorajax.types import Adapter, JsonDict


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of `METHODS`.

    Attributes:
      summary: one line for tables and model cards.
      fit: (source, target, options, extras) -> Fitted.
      predict: (fitted, queries, output_rank) -> Prediction of each query.
      any_rank: queries may have another rank than the anchors.
      is_learned: counts as a learned method in the seed's headline; False for references.
      needs: fields of `Extras` that must be given to `fit`.
      query_side: 'target' for diagnostics that are shown the true target adapter.
    """

    summary: str
    fit: Callable[[Anchors, Anchors, Options, Extras], Fitted]
    predict: Callable[[Fitted, Sequence[Adapter], int], list[Prediction]]
    any_rank: bool
    is_learned: bool = True
    query_side: str = 'source'
    needs: tuple[str, ...] = ()


def _span(summary: str, weigher: Weigher, is_learned: bool = True) -> Method:
    """A method of `span`."""
    return Method(
        summary=summary,
        fit=lambda source, target, options, _: span.fit(weigher, source, target, options),
        predict=lambda fitted, queries, rank: span.predict(weigher, fitted, queries, rank),
        any_rank=weigher.space == 'delta',
        is_learned=is_learned,
    )


def _topk(count: int | None, scope: str) -> Method:
    """A method `topk{K}_global_ridge` or `topk{K}_pertensor_ridge`."""
    return _span(
        f'{scope} ridge on the {count or "K"} nearest anchors (seed)',
        RuleWeigher(topk_ridge(count), 'factor', scope=scope.removeprefix('per')),
    )


def _direct(summary: str, maker: direct.Maker, *needs: str) -> Method:
    """A method of `direct`."""
    return Method(
        summary=summary,
        fit=lambda source, target, options, extras: direct.fit(
            maker, source, target, direct.Inputs(options, extras)
        ),
        predict=direct.predict,
        any_rank=True,
        needs=tuple(f'{side}_{what}' for what in needs for side in ('source', 'target')),
    )


def _blend(summary: str, has_bilinear: bool, **weighers: Weigher) -> Method:
    """A method of `blend`."""
    parts = Blend(weighers, has_bilinear)
    return Method(
        summary=summary,
        fit=lambda source, target, options, _: parts.fit(source, target, options),
        predict=parts.predict,
        any_rank=True,
    )


def _oracle(scope: str) -> Method:
    """The projection of the true target adapter on the anchors' span."""
    weigher = RuleWeigher(projection(), 'delta', 'trace', scope)
    return Method(
        summary=f'diagnostic: true target adapter, projected on the anchors ({scope} weights)',
        fit=lambda source, target, options, _: span.fit(weigher, target, target, options),
        predict=lambda fitted, queries, rank: span.predict(weigher, fitted, queries, rank),
        any_rank=True,
        is_learned=False,
        query_side='target',
    )


METHODS: dict[str, Method] = {
    'zero': _span('no adapter at all', RuleWeigher(constant(0.0), 'factor'), is_learned=False),
    'mean': _span(
        "mean of the anchors' factors (seed)",
        RuleWeigher(constant(1.0), 'factor'),
        is_learned=False,
    ),
    'mean_delta': _span(
        "mean of the anchors' updates", RuleWeigher(constant(1.0), 'delta'), is_learned=False
    ),
    'scaled_mean': _span(
        'mean update times the scale that leave-one-out finds best',
        RuleWeigher(scaled(constant(1.0)), 'delta', 'trace'),
        is_learned=False,
    ),
    'nearest': _span(
        "target adapter of the nearest anchor, by cosine of the source's updates",
        RuleWeigher(nearest(), 'delta', 'trace'),
        is_learned=False,
    ),
    'placebo': _span(
        'delta_ridge with its weights given to the wrong tasks',
        RuleWeigher(misassigned(kernel_ridge(fall_back=True)), 'delta', 'trace'),
        is_learned=False,
    ),
    'pad_truncate': dataclasses.replace(
        _direct('source factors cut or padded to the target', direct.make_pad_truncate),
        is_learned=False,
    ),
    'global_ridge': _span(
        'one ridge on all flattened factors (seed)',
        RuleWeigher(kernel_ridge(fall_back=False), 'factor'),
    ),
    'pertensor_ridge': _span(
        'one ridge per tensor on flattened factors (seed)',
        RuleWeigher(kernel_ridge(fall_back=False), 'factor', scope='tensor'),
    ),
    'topk8_global_ridge': _topk(8, 'global'),
    'topk8_pertensor_ridge': _topk(8, 'pertensor'),
    'pertensor_mlp': _span(
        'one small neural network per tensor on flattened factors (seed)',
        RuleWeigher(neural_network(), 'factor', scope='tensor'),
    ),
    'pertensor_pca': _span(
        "ridge per tensor onto principal components of the target's factors (HF8qoeEo1u)",
        RuleWeigher(principal_components(), 'factor', scope='tensor'),
    ),
    'delta_ridge': _span(
        'kernel ridge on updates, tensors trace-normalised',
        RuleWeigher(kernel_ridge(fall_back=True), 'delta', 'trace'),
    ),
    'delta_cosine_ridge': _span(
        'kernel ridge on updates, every tensor of every adapter scaled to norm 1',
        RuleWeigher(kernel_ridge(fall_back=True), 'delta', 'cosine'),
    ),
    'delta_module_ridge': _span(
        'kernel ridge on updates, one kernel per projection',
        RuleWeigher(kernel_ridge(fall_back=True), 'delta', 'trace', 'module'),
    ),
    'delta_tensor_ridge': _span(
        'kernel ridge on updates, one kernel per tensor',
        RuleWeigher(kernel_ridge(fall_back=True), 'delta', 'trace', 'tensor'),
    ),
    'delta_hierarchical_ridge': _span(
        'kernel ridge on updates, global and per-tensor kernels mixed by leave-one-out',
        RuleWeigher(kernel_ridge(fall_back=True), 'delta', 'trace', 'hierarchical'),
    ),
    'delta_scaled_ridge': _span(
        'delta_ridge times the scale that leave-one-out finds best',
        RuleWeigher(scaled(kernel_ridge(fall_back=True)), 'delta', 'trace'),
    ),
    'matched_ridge': _span(
        'kernel ridge on updates, kernels per tensor mixed to match the target (ours)', Matched()
    ),
    'delta_pca': _span(
        "ridge per tensor onto principal components of the target's updates",
        RuleWeigher(principal_components(), 'delta', 'trace', 'tensor'),
    ),
    'bilinear': _blend(
        'bilinear map over several source layers, by alternating ridge', has_bilinear=True
    ),
    'bilinear_ridge': _blend(
        'bilinear map and delta_ridge, stacked by leave-one-out',
        has_bilinear=True,
        delta_ridge=RuleWeigher(kernel_ridge(fall_back=True), 'delta', 'trace'),
    ),
    'stacked': _blend(
        'matched_ridge, delta_hierarchical_ridge and bilinear, stacked by leave-one-out',
        has_bilinear=True,
        matched_ridge=Matched(),
        delta_hierarchical_ridge=RuleWeigher(
            kernel_ridge(fall_back=True), 'delta', 'trace', 'hierarchical'
        ),
    ),
    'cross_lora': _direct(
        'leading subspaces of the base weights aligned by order (Cross-LoRA)',
        direct.make_cross_lora,
        'weights',
    ),
    'lora_x': _direct(
        "projection on the target's leading subspaces where widths agree (LoRA-X)",
        direct.make_lora_x,
        'weights',
    ),
    'theseus': _direct(
        'orthogonal Procrustes on activations of shared text (Theseus)',
        direct.make_theseus,
        'inputs',
        'outputs',
    ),
    'activation_ridge': _direct(
        'ridge regression on activations of shared text',
        direct.make_state_ridge,
        'inputs',
        'outputs',
    ),
    'span_oracle': _oracle('global'),
    'span_oracle_tensor': _oracle('tensor'),
}


def method_named(name: str) -> Method:
    """Returns a method by name.

    Raises:
      InputError: if there is none; suggests the closest name.
    """
    if name in METHODS:
        return METHODS[name]
    if match := re.fullmatch(r'topk([1-9]\d*)?_(global|pertensor)_ridge', name):
        return _topk(int(match[1]) if match[1] else None, match[2])
    close = difflib.get_close_matches(name, METHODS, 1)
    hint = f'did you mean {close[0]!r}?' if close else f'expected one of {list(METHODS)}'
    raise InputError(f'unknown mapping method {name!r}: {hint}')


@dataclasses.dataclass
class TransferMap:
    """A fitted mapping from source adapters to target adapters.

    Attributes:
      method: name in `METHODS`.
      options: that it was fitted with.
      tasks: anchors' tasks, sorted.
      query_shapes: what `predict` accepts.
      output_rank: rank of predictions.
      diagnostics: JSON-able: leave-one-out scores, penalty, weights where they are fixed.
    """

    method: str
    options: Options
    tasks: tuple[str, ...]
    query_shapes: dict[str, Shape]
    output_rank: int
    fitted: Fitted

    @property
    def diagnostics(self) -> JsonDict:
        return {
            'method': self.method,
            'anchors': list(self.tasks),
            'output_rank': self.output_rank,
            **self.fitted.info,
        }

    def predict(self, adapter: Adapter) -> Adapter:
        """Translates a source adapter.

        Args:
          adapter: with the anchors' projections and shapes.

        Returns:
          A target adapter of float32 numpy arrays, of rank `output_rank`.

        Raises:
          InputError: if the shapes are not the anchors', or the adapter holds NaN or infinity.
        """
        return self.explain(adapter).adapter

    def explain(self, adapter: Adapter) -> Prediction:
        """Translates an adapter and says how; see `predict`.

        Returns:
          Prediction(adapter, report); the report holds the anchors' weights, the anchors in
          use, the query's distance to their span, the prediction's norm relative to the
          anchors' mean norm, and the energy lost by truncation, where the method has them.
        """
        return self.explain_many({'adapter': adapter})['adapter']

    def explain_many(self, adapters: Mapping[str, Adapter]) -> dict[str, Prediction]:
        """Translates several adapters while reading the anchors once; see `explain`."""
        method = method_named(self.method)
        for task, adapter in adapters.items():
            name = f'query {task}'
            check_matches(read_shapes(adapter, name), self.query_shapes, name, method.any_rank)
        predictions = method.predict(self.fitted, list(adapters.values()), self.output_rank)
        return dict(zip(adapters, predictions, strict=True))

    def save(self, directory: workdir.PathLike) -> None:
        """Writes the mapping, self-contained, as safetensors and JSON; whole or not at all."""
        header = {
            'method': self.method,
            'options': dataclasses.asdict(self.options),
            'tasks': list(self.tasks),
            'query_shapes': {p: dataclasses.asdict(s) for p, s in self.query_shapes.items()},
            'output_rank': self.output_rank,
        }
        storage.save(directory, header, self.fitted)


def fit(
    method: str,
    source_adapters: AnchorSource,
    target_adapters: AnchorSource,
    **options: Any,
) -> TransferMap:
    """Fits a mapping on tasks for which both models have an adapter.

    Args:
      method: a name in `METHODS`, or `topk{K}_global_ridge`, `topk{K}_pertensor_ridge`.
      source_adapters, target_adapters: task -> adapter tree (or a callable returning one);
        leaves may be memory maps. `Anchors` may be given instead, to share their Gram
        matrices between several fits.
      **options: fields of `Options` (numbers) and `Extras` (arrays of the base models).

    Raises:
      InputError: on an unknown method or option, anchors that differ between the sides, are
        malformed, unlike each other, or hold NaN or infinity.
    """
    chosen = method_named(method)
    parsed, extras = parse(options)
    source, target = read_pair(source_adapters, target_adapters)
    rank = parsed.output_rank or max(shape.rank for shape in target.shapes.values())
    fitted = chosen.fit(source, target, parsed, extras)
    queries = target if chosen.query_side == 'target' else source
    return TransferMap(method, parsed, source.tasks, queries.shapes, rank, fitted)


def load(directory: workdir.PathLike) -> TransferMap:
    """Reads a mapping that `TransferMap.save` wrote.

    Raises:
      InputError: if the directory is no mapping or a file in it is damaged.
    """
    header, fitted = storage.load(directory)
    return TransferMap(
        method=header['method'],
        options=Options(**header['options']),
        tasks=tuple(header['tasks']),
        query_shapes={p: Shape(**shape) for p, shape in header['query_shapes'].items()},
        output_rank=header['output_rank'],
        fitted=fitted,
    )
