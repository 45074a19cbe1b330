"""The one interface of all mappings: fit, predict, save, load."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lorajax import io
from lorajax.errors import InputError
from lorajax.lora import LoraConfig, PeftAdapter, load_peft, pad_rank
from lorajax.mapping import combination, manifest, storage
from lorajax.mapping.anchors import AnchorSource, read_pair
from lorajax.mapping.methods import method_named
from lorajax.mapping.options import Options, parse
from lorajax.mapping.queries import Queries
from lorajax.mapping.shapes import Shape
from lorajax.mapping.state import MappingState, Prediction
from lorajax.mapping.subspace import frame_adapters
from lorajax.mapping.tensor_loop import one_blas_thread
from lorajax.types import Adapter, JsonDict


@dataclasses.dataclass
class TransferMap:
    """A fitted mapping from source adapters to target adapters.

    Attributes:
      method: name in `METHODS`.
      options: that it was fitted with.
      tasks: anchors' tasks, sorted.
      query_shapes: what `predict` accepts.
      output_rank: rank of predictions.
      state: what fitting found.
      bases: names of the 'source' and 'target' base models, where they are known.
    """

    method: str
    options: Options
    tasks: tuple[str, ...]
    query_shapes: Mapping[str, Shape]
    output_rank: int
    state: MappingState
    bases: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        between = f', {self.bases["source"]} to {self.bases["target"]}' if self.bases else ''
        return (
            f'TransferMap({self.method}, {len(self.tasks)} anchors, rank {self.output_rank}'
            f'{between})'
        )

    def translate(self, adapter: io.PathLike | PeftAdapter) -> PeftAdapter:
        """Translates an adapter with its config, so that saving it keeps the right base model.

        Args:
          adapter: a directory in PEFT format, or what `lora.load_peft` read.

        Returns:
          An adapter of the target model; its scale is in the factors, so alpha = rank.

        Raises:
          InputError: if the adapter belongs to another base than the mapping's source; as
            `predict` and `load_peft`.
        """
        source = adapter if isinstance(adapter, PeftAdapter) else load_peft(adapter)
        base = source.config.base_model
        if base and self.bases and base != self.bases['source']:
            raise InputError(
                f'the adapter belongs to {base}, the mapping translates adapters of '
                f'{self.bases["source"]}'
            )
        found = self.predict(source.tree)
        rank = max(entry['a'].shape[-1] for entry in found['layers'].values())
        config = LoraConfig(
            rank=rank, alpha=rank, targets=tuple(found['layers']),
            base_model=self.bases.get('target'),
        )  # fmt: skip
        return PeftAdapter(config, pad_rank(found, rank))

    @property
    def diagnostics(self) -> JsonDict:
        """JSON-able: left-out scores and how they were made (`validation`), penalty, fallback.

        See `scores.report`, and the family of the method for what else there is.
        """
        return {
            'method': self.method,
            'anchors': list(self.tasks),
            'output_rank': self.output_rank,
            **self.state.info,
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

    def explain_many(self, adapters: Mapping[str, Adapter] | Queries) -> dict[str, Prediction]:
        """Translates several adapters while reading the anchors once; see `explain`.

        Args:
          adapters: by name; `Queries` may be given instead, to share their products with the
            anchors between mappings that were fitted on the same `Anchors`.
        """
        queries = adapters if isinstance(adapters, Queries) else Queries(adapters)
        method = method_named(self.method)
        queries.check(self.query_shapes, method.any_rank)
        with one_blas_thread():
            predictions = method.predict(self.state, queries, self.output_rank)
        return dict(zip(queries.names, predictions, strict=True))

    def anchors(self, side: str) -> dict[str, Adapter]:
        """Returns the adapters of a side that the mapping was fitted on, by task.

        Args:
          side: 'source' or 'target'.

        Raises:
          InputError: if the method keeps none.
        """
        kept = self.state.source if side == 'source' else self.state.target
        if kept is not None:
            return kept.trees
        frame = self.state.source_frame if side == 'source' else self.state.frame
        if frame is None:
            raise InputError(
                f'a mapping by {self.method} keeps no {side} adapters, expected one that weighs '
                'anchors, such as matched_scaled'
            )
        return dict(zip(self.tasks, frame_adapters(frame), strict=True))

    @property
    def can_leave_out(self) -> bool:
        """Whether `left_out` is known: of a mapping that was just fitted and weighs anchors."""
        return self.state.left_out is not None

    def left_out(self) -> dict[str, Adapter]:
        """Returns the target's anchors as they are predicted from the others, by task.

        Penalties and the like are those chosen on all anchors. With one or two, from which no
        other can be predicted, this is the mean of the others.

        Raises:
          InputError: unless `can_leave_out`.
        """
        if not self.can_leave_out:
            raise InputError(
                f'a mapping by {self.method} has no left-out predictions here, expected one that '
                'weighs anchors and was just fitted'
            )
        with one_blas_thread():
            predicted = combination.predict_left_out(self.state, self.output_rank)
        return dict(zip(self.tasks, predicted, strict=True))

    def save(self, directory: io.PathLike, dtype: str = 'float32') -> None:
        """Writes the mapping, self-contained, as safetensors and JSON; whole or not at all.

        Args:
          directory: to make or replace.
          dtype: 'float32', which predicts the same bits when loaded, or 'bfloat16' for half
            the size (1.7 GB instead of 3.4 GB for 16 anchors of rank 16 at 3B).

        Raises:
          ArgumentError: on another dtype.
        """
        header = manifest.Header(
            self.method, self.options, self.tasks, self.query_shapes, self.output_rank
        )
        storage.save(directory, header, self.state, dtype)


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
      **options: fields of `Options` (numbers) and `BaseModelArrays` (arrays of both models).

    Raises:
      InputError: on an unknown method or option, anchors that differ between the sides, are
        malformed, unlike each other, or hold NaN or infinity.
    """
    chosen = method_named(method)
    parsed, base_models = parse(options)
    source, target = read_pair(source_adapters, target_adapters)
    if not chosen.any_rank:
        source.check_equal_ranks()
        target.check_equal_ranks()
    rank = parsed.output_rank or max(shape.rank for shape in target.shapes.values())
    with one_blas_thread():
        state = chosen.fit(source, target, parsed, base_models)
    queries = target if chosen.query_side == 'target' else source
    return TransferMap(method, parsed, source.tasks, queries.shapes, rank, state)


def load(directory: io.PathLike) -> TransferMap:
    """Reads a mapping that `TransferMap.save` wrote.

    Raises:
      InputError: if the directory is no mapping or a file in it is damaged.
    """
    header, state = storage.load(directory)
    return TransferMap(*header, state=state, bases=storage.read_bases(directory))
