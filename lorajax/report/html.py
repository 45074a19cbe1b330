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
from typing import Any

import jinja2
from markupsafe import Markup

from lorajax.experiment.workdir import Workdir
from lorajax.io import read_jsonl
from lorajax.report.document import Document, Table, cell_text, is_numeric, sort_value
from lorajax.report.sections.seed import Results, method_names

MAX_ITEMS = 500  # per held-out, so that the page stays within some tens of megabytes
MAX_CHARS = 4000  # of a prompt or an answer


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
      browser: from `item_browser`.

    Returns:
      A complete HTML document.
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
    return environment.get_template('report.html').render(
        document=document,
        cards=_cards(results),
        # Our own files and matplotlib's SVG, which escapes the names it is given.
        style=Markup(_template('report.css')),
        script=Markup(script),
        script_hash=digest,
        pictures={name: Markup(svg) for name, (_, svg) in pictures.items()},
        kind=lambda block: type(block).__name__,
        cells=_cells,
        numeric=is_numeric,
        browser_json=Markup(harmless_json(browser)),
        browser=browser,
    )


def item_browser(workdir: Workdir, results: Results) -> dict[str, Any]:
    """Collects prompt, reference and every method's answer of each item.

    Args:
      workdir: a run; tasks without stored outcomes are left out.
      results: content of results.json, for tasks and the order of methods.

    Returns:
      {'tasks': [{'task', 'n', 'methods', 'items': [{'item', 'prompt', 'reference',
      'answers': distinct texts, 'given': [index into answers per method], 'right': [0 or 1
      per method]}]}]}, methods without an answer being -1. At most MAX_ITEMS items a task;
      texts are cut at MAX_CHARS characters.
    """
    tasks = []
    order = method_names(results)
    for row in results['experiment1']['rows']:
        path = workdir.outcomes(row['task'])
        if not path.exists():
            continue
        held: dict[str, dict[str, dict[str, Any]]] = {}
        for outcome in read_jsonl(path):
            held.setdefault(str(outcome['item']), {})[outcome['method']] = outcome
        source = workdir.eval_data(row['task'])
        prompts = {str(e['item']): e for e in (read_jsonl(source) if source.exists() else [])}
        methods = [m for m in order if any(m in outcomes for outcomes in held.values())]
        items = [
            _item(name, outcomes, methods, prompts.get(name, {}))
            for name, outcomes in list(held.items())[:MAX_ITEMS]
        ]
        tasks.append({'task': row['task'], 'n': len(held), 'methods': methods, 'items': items})
    return {'tasks': tasks}


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


def _item(
    name: str, outcomes: Mapping[str, Mapping[str, Any]], methods: list[str], source: Mapping
) -> dict[str, Any]:
    """One item of the browser; equal answers of several methods are stored once."""
    answers: dict[str, int] = {}
    given, right = [], []
    for method in methods:
        outcome = outcomes.get(method)
        if outcome is None:
            given.append(-1)
            right.append(0)
        else:
            text = _cut(outcome.get('prediction'))
            given.append(answers.setdefault(text, len(answers)))
            right.append(int(bool(outcome['correct'])))
    reference = next((o.get('reference') for o in outcomes.values()), None)
    return {
        'item': name,
        'prompt': _cut(source.get('prompt')),
        'reference': _cut(source.get('reference', reference)),
        'answers': list(answers),
        'given': given,
        'right': right,
    }


def _cut(value: Any) -> str:
    """A text of at most MAX_CHARS characters; other values as JSON."""
    if value is None:
        return ''
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    extra = len(text) - MAX_CHARS
    return text if extra <= 0 else f'{text[:MAX_CHARS]} [{extra} more characters]'


def _cells(table: Table) -> list[list[tuple[str, float | str | None]]]:
    """(text, sort value) of every cell."""
    return [
        [(cell_text(v, c.form), sort_value(v)) for v, c in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]


def _cards(results: Results) -> list[dict[str, str]]:
    """The few numbers at the top of the page."""
    part = results['experiment1']
    selected = part['selected_method']
    cards = []
    if selected in part['pooled_gap_recovered']:
        value, low, high = part['pooled_gap_recovered'][selected]
        note = '' if low is None else f' · 95 % interval {100 * low:.1f} to {100 * high:.1f} %'
        cards.append(
            {
                'value': f'{100 * value:.1f} %',
                'label': 'of the gap recovered',
                'note': f'{selected}, fixed beforehand{note}',
                'kind': 'primary',
            }
        )
    if selected in part['pooled_nll_gap_recovered']:
        value, low, high = part['pooled_nll_gap_recovered'][selected]
        note = '' if low is None else f', 95 % interval {100 * low:.1f} to {100 * high:.1f} %'
        cards.append(
            {
                'value': f'{100 * value:.1f} %',
                'label': 'of the loss gap recovered',
                'note': f'loss of the reference answers{note}',
                'kind': '',
            }
        )
    if part['headline'] is not None:
        chance = part['headline_chance']
        note = 'optimistic: the best method is picked after the fact'
        if chance:
            note += f'; chance alone gives {100 * chance["expected"]:+.1f} pp'
        cards.append(
            {
                'value': f'{100 * part["headline"]:+.2f} pp',
                'label': 'best learned minus mean',
                'note': note,
                'kind': '',
            }
        )
    excluded = ', '.join(part['excluded'])
    cards.append(
        {
            'value': f'{len(part["usable"])} of {len(part["rows"])}',
            'label': 'held-outs usable',
            'note': f'excluded: {excluded}' if excluded else 'oracle gains 3 pp or more on all',
            'kind': '',
        }
    )
    return cards
