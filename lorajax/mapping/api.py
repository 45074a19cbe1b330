"""The one interface of all mappings: fit, predict, save, load."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lorajax import io
from lorajax.mapping import storage
from lorajax.mapping.anchors import AnchorSource, Shape, check_matches, read_pair, read_shapes
from lorajax.mapping.methods import method_named
from lorajax.mapping.options import Options, parse
from lorajax.mapping.state import Fitted, Prediction
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

    def save(self, directory: io.PathLike, dtype: str = 'float32') -> None:
        """Writes the mapping, self-contained, as safetensors and JSON; whole or not at all.

        Args:
          directory: to make or replace.
          dtype: 'float32', which predicts the same bits when loaded, or 'bfloat16' for half
            the size (1.7 GB instead of 3.4 GB for 16 anchors of rank 16 at 3B).

        Raises:
          InputError: on another dtype.
        """
        header = {
            'method': self.method,
            'options': dataclasses.asdict(self.options),
            'tasks': list(self.tasks),
            'query_shapes': {p: dataclasses.asdict(s) for p, s in self.query_shapes.items()},
            'output_rank': self.output_rank,
        }
        storage.save(directory, header, self.fitted, dtype)


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


def load(directory: io.PathLike) -> TransferMap:
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
