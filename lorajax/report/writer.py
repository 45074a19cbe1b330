"""Writes the report of a run: Markdown, figures and the HTML page."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from lorajax.evaluation.outcomes import Table
from lorajax.io import PathLike, atomic_file, write_text
from lorajax.report import figures, html
from lorajax.report.item_browser import item_browser
from lorajax.report.markdown import to_markdown
from lorajax.report.outline import make_document
from lorajax.report.sections.seed import Config, Results, method_names
from lorajax.types import ReadOnlyJson


def write(
    directory: PathLike,
    results: Results,
    config: Config,
    *,
    outcomes: Mapping[str, Table] | None = None,
    eval_items: Mapping[str, Sequence[ReadOnlyJson]] | None = None,
    metrics: Sequence[ReadOnlyJson] = (),
    overlap: Mapping[str, Any] | None = None,
    diagnostics: Mapping[str, ReadOnlyJson] | None = None,
) -> None:
    """Writes ROUND4_REPORT.md, report.html and a PNG of every figure that has data.

    Same values in, same bytes out. The Markdown file comes last, so that a directory that holds
    it holds a whole report.

    Args:
      directory: where the report goes.
      results: content of results.json; see `lorajax.evaluation.results.build`.
      config: content of config.json.
      outcomes: {task: its table}, for the item browser.
      eval_items: {task: its evaluation items}, for the prompts in the item browser.
      metrics: rows of metrics.jsonl.
      overlap: content of data/overlap.json.
      diagnostics: {method: content of its diagnostics.json}, seconds and bytes included.
    """
    directory = pathlib.Path(directory)
    pictures = figures.draw(results, metrics)
    browser = item_browser(outcomes or {}, eval_items or {}, method_names(results))
    document = make_document(
        results, config, overlap, diagnostics or {}, set(pictures), metrics, browser
    )
    for name, (png, _) in pictures.items():
        with atomic_file(directory / f'{name}.png') as temporary:
            temporary.write_bytes(png)
    write_text(directory / 'report.html', html.render(document, results, pictures, browser))
    write_text(directory / 'ROUND4_REPORT.md', to_markdown(document))
