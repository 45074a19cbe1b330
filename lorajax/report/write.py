"""Writes the report of a run: Markdown, figures and the HTML page, from its files alone."""

from typing import Any

from lorajax.evaluation import results
from lorajax.experiment.workdir import Workdir
from lorajax.io import atomic_file, read_json, read_jsonl, write_json, write_text
from lorajax.report import html
from lorajax.report.document import Document, to_markdown
from lorajax.report.figures import main as figures
from lorajax.report.sections import extra, seed
from lorajax.report.sections.failure_modes import failure_modes
from lorajax.report.sections.seed import Config, Results

TITLE = 'Cross-Model LoRA Adapter Translation — Round 4'


def write(workdir: Workdir) -> None:
    """Writes report/ROUND4_REPORT.md, report/report.html and report/*.png.

    Needs config.json and results.json (made from the outcomes if it is absent); uses
    metrics.jsonl, data/ and outcomes/ where they exist. Same files in, same report out.

    Raises:
      InputError: one of them is missing or malformed.
    """
    config = read_json(workdir.config)
    if not workdir.results.exists():
        write_json(workdir.results, results.build(workdir))
    found = read_json(workdir.results)
    metrics = read_jsonl(workdir.metrics) if workdir.metrics.exists() else []
    overlap = read_json(workdir.overlap) if workdir.overlap.exists() else None
    pictures = figures.draw(found, metrics)
    paths = sorted((workdir.root / 'mappings').glob('*/diagnostics.json'))
    costs = {path.parent.name: read_json(path) for path in paths}
    document = make_document(found, config, overlap, costs, set(pictures))
    for name, (png, _) in pictures.items():
        with atomic_file(workdir.report / f'{name}.png') as temporary:
            temporary.write_bytes(png)
    page = html.render(document, found, pictures, html.item_browser(workdir, found))
    write_text(workdir.report / 'report.html', page)
    # Last, so that a report directory with the Markdown file is a complete one.
    write_text(workdir.report / 'ROUND4_REPORT.md', to_markdown(document))


def make_document(
    found: Results,
    config: Config,
    overlap: dict[str, Any] | None,
    costs: dict[str, Any],
    pictures: set[str],
) -> Document:
    """Puts the sections together: the seed's in the seed's order, then ours.

    Args:
      found: content of results.json.
      config: content of config.json.
      overlap: content of data/overlap.json, if there is one.
      costs: method -> content of its diagnostics.json, for what a clock wrote.
      pictures: names of the figures that could be drawn; others are left out.
    """
    sections = [
        seed.recipe(found, config),
        seed.main_table(found),
        seed.headline(found),
        seed.topk_log(found),
        seed.scaling(found),
        seed.transfer(found),
        failure_modes(found),
        extra.primary(found),
        extra.counts(found),
        extra.paired(found),
        extra.loss(found),
        extra.scoring(found),
        extra.overlap(overlap),
        extra.limits(found),
        extra.diagnostics(found),
        extra.costs(costs),
        extra.training('loss' in pictures),
        extra.reading_guide(),
        extra.provenance(config),
    ]
    lead = [
        f'Models: X={found["source_model"]} → Y={found["target_model"]}',
        f'Primary number: {extra.primary_sentence(found)}',
    ]
    kept = [section.only_figures(pictures) for section in sections if section is not None]
    return Document(TITLE, lead, kept)
