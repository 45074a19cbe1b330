"""The order of a report: the answer first, then the seed's sections in its order, then the rest."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from lorajax.report.document import Document
from lorajax.report.sections import mappings, run, seed, statistics
from lorajax.report.sections.failure_modes import failure_modes
from lorajax.report.sections.overlap import overlap
from lorajax.report.sections.samples import samples
from lorajax.report.sections.seed import Config, Results

TITLE = 'Cross-Model LoRA Adapter Translation — Round 4'
_NOTHING: Mapping[str, Any] = {'tasks': []}


def make_document(
    results: Results,
    config: Config,
    overlap_matrix: Mapping[str, Any] | None,
    diagnostics: Mapping[str, Any],
    pictures: Set[str],
    metrics: Sequence[Mapping[str, Any]] = (),
    browser: Mapping[str, Any] = _NOTHING,
) -> Document:
    """Puts the sections together.

    Args:
      results: content of results.json.
      config: content of config.json.
      overlap_matrix: content of data/overlap.json, if there is one.
      diagnostics: {method: content of its diagnostics.json}, for what a clock wrote.
      pictures: names of the figures that could be drawn; others are left out.
      metrics: rows of metrics.jsonl.
      browser: every stored answer, from `item_browser.item_browser`.
    """
    sections = [
        statistics.primary(results),
        samples(browser, results['experiment1']['selected_method']),
        run.reading_guide(seed.method_names(results)),
        seed.main_table(results),
        seed.headline(results),
        seed.scaling(results),
        seed.transfer(results),
        failure_modes(results),
        statistics.counts(results),
        statistics.paired(results),
        statistics.loss(results),
        statistics.scoring(results),
        mappings.references(results),
        mappings.source_side(results),
        mappings.diagnostics(results),
        mappings.costs(diagnostics),
        run.training('loss' in pictures),
        run.times(metrics),
        overlap(overlap_matrix),
        seed.topk_log(results),
        seed.recipe(results, config),
        run.provenance(config),
    ]
    lead = [
        'How much of what an adapter trained on the target model gains is kept when the adapter of '
        'the source model is translated instead.',
        f'Models: X={results["source_model"]} → Y={results["target_model"]}',
        f'Primary number: {statistics.primary_sentence(results)}',
    ]
    kept = [section.only_figures(pictures) for section in sections if section is not None]
    return Document(TITLE, lead, kept)
