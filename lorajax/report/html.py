"""The report as one HTML page that needs no network and trusts no text.

Prompts and answers come from data sets and models, so they are escaped by jinja2 or travel
as JSON that cannot end its script element, and are put on the page as text only. A content
security policy allows the page's own script by its hash and nothing else: no other script,
no request.
"""

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jinja2

from lorajax.evaluation.outcomes import storable
from lorajax.report.document import (
    Chart,
    Document,
    Section,
    Table,
    cell_text,
    is_numeric,
    sort_value,
)
from lorajax.report.sections.seed import Results


def render(
    document: Document,
    results: Results,
    pictures: Mapping[str, tuple[bytes, str]],
    browser: Mapping[str, Any],
) -> str:
    """Renders the page.

    Args:
      document: the report, shared with its Markdown form.
      results: content of results.json.
      pictures: {name: (PNG, SVG)} from `figures.draw`; the SVG is put inline.
      browser: from `item_browser.item_browser`.

    Returns:
      A complete HTML document that UTF-8 can hold.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _template('report.js')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template('report.html').render(
        document=document,
        cards=_cards(results),
        # Taken as they are: our own files, harmless JSON, and matplotlib's SVG, which escapes the
        # names it gets.
        style=_template('report.css'),
        script=script,
        script_hash=digest,
        pictures={name: svg for name, (_, svg) in pictures.items()},
        kind=lambda block: type(block).__name__,
        hero=_hero(document),
        cells=_cells,
        numeric=is_numeric,
        browser_json=harmless_json(browser),
        browser=browser,
    )
    return storable(page)


def harmless_json(value: Any) -> str:
    """Returns JSON that no HTML parser can mistake for the end of a script element.

    Only ASCII, and no '<', '>' or '&': all as \\u escapes, which JSON reads back.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(',', ':'))
    for character in '<>&':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return text


def _template(name: str) -> str:
    """Reads a file of the templates directory."""
    directory = importlib.resources.files('lorajax.report') / 'templates'
    return (directory / name).read_text(encoding='utf-8')


def _cells(table: Table) -> list[list[tuple[str, float | str | None]]]:
    """(text, sort value) of every cell."""
    return [
        [(cell_text(v, c.form), sort_value(v)) for v, c in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]


def _hero(document: Document) -> Section | None:
    """The section that stands on the first screen, beside the numbers: the first with a chart."""
    charted = (s for s in document.sections if any(isinstance(b, Chart) for b in s.blocks))
    return next(charted, None)


class _Card(NamedTuple):
    """A number at the top of the page."""

    value: str
    label: str
    note: str
    kind: str = ''


def _cards(results: Results) -> list[_Card]:
    """The few numbers at the top of the page."""
    part = results['experiment1']
    selected, cards = part['selected_method'], []
    if selected in part['pooled_gap_recovered']:
        value, interval = _share(part['pooled_gap_recovered'][selected], ' · ')
        note = f'by {selected}, the method fixed beforehand{interval}'
        cards.append(_Card(value, 'of what retraining gains is kept', note, 'primary'))
    if selected in part['pooled_nll_gap_recovered']:
        value, interval = _share(part['pooled_nll_gap_recovered'][selected], ', ')
        note = f'loss of the reference answers{interval}'
        cards.append(_Card(value, 'of the gain in loss is kept', note))
    if part['headline'] is not None:
        chance = part['headline_chance']
        note = 'points of accuracy; optimistic, as the best is picked after the fact, task by task'
        if chance:
            note += f'; chance alone gives {100 * chance["expected"]:+.1f}'
        value = f'{100 * part["headline"]:+.1f} points'
        cards.append(_Card(value, 'best learned map minus the mean adapter', note))
    note = 'retraining gains 3 points or more on each'
    if part['excluded']:
        note = f'left out, retraining gains too little: {", ".join(part["excluded"])}'
    value = f'{len(part["usable"])} of {len(part["rows"])}'
    cards.append(_Card(value, 'held-out tasks are counted', note))
    return cards


def _share(found: tuple[Any, Any, Any], before: str) -> tuple[str, str]:
    """Returns a share in words, and its interval behind `before` if there is one."""
    value, low, high = found
    interval = '' if low is None else f'{before}95 % interval {100 * low:.1f} to {100 * high:.1f} %'
    return f'{100 * value:.1f} %', interval
