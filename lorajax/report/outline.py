"""The order of a report: the seed's sections first, in the seed's order, then ours."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from lorajax.report.document import Document
from lorajax.report.sections import mappings, run, seed, statistics
from lorajax.report.sections.failure_modes import failure_modes
from lorajax.report.sections.overlap import overlap
from lorajax.report.sections.seed import Config, Results

TITLE = 'Cross-Model LoRA Adapter Translation — Round 4'


def make_document(
    results: Results,
    config: Config,
    overlap_matrix: Mapping[str, Any] | None,
    diagnostics: Mapping[str, Any],
    pictures: Set[str],
    metrics: Sequence[Mapping[str, Any]] = (),
) -> Document:
    """Puts the sections together.

    Args:
      results: content of results.json.
      config: content of config.json.
      overlap_matrix: content of data/overlap.json, if there is one.
      diagnostics: {method: content of its diagnostics.json}, for what a clock wrote.
      pictures: names of the figures that could be drawn; others are left out.
      metrics: rows of metrics.jsonl.
    """
    sections = [
        seed.recipe(results, config),
        seed.main_table(results),
        seed.headline(results),
        seed.topk_log(results),
        seed.scaling(results),
        seed.transfer(results),
        failure_modes(results),
        statistics.primary(results),
        statistics.counts(results),
        statistics.paired(results),
        statistics.loss(results),
        statistics.scoring(results),
        overlap(overlap_matrix),
        mappings.references(results),
        mappings.diagnostics(results),
        mappings.costs(diagnostics),
        run.training('loss' in pictures),
        run.times(metrics),
        run.reading_guide(),
        run.provenance(config),
    ]
    lead = [
        f'Models: X={results["source_model"]} → Y={results["target_model"]}',
        f'Primary number: {statistics.primary_sentence(results)}',
    ]
    kept = [section.only_figures(pictures) for section in sections if section is not None]
    return Document(TITLE, lead, kept)
