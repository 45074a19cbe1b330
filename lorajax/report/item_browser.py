"""Every stored answer beside its prompt, as data for the page's item browser."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lorajax.evaluation.outcomes import Row, Table
from lorajax.types import JsonDict, ReadOnlyJson

MAX_ITEMS = 500  # per held-out, so that the page stays within some tens of megabytes
MAX_CHARS = 4000  # of a prompt or an answer


def item_browser(
    outcomes: Mapping[str, Table],
    eval_items: Mapping[str, Sequence[ReadOnlyJson]],
    methods: Sequence[str],
) -> JsonDict:
    """Collects prompt, reference and every method's answer of each item.

    Args:
      outcomes: {task: its table}, in the order of the page.
      eval_items: {task: its evaluation items}, for the prompts.
      methods: in the order of the page.

    Returns:
      {'tasks': [{'task', 'n', 'methods', 'items': [{'item', 'prompt', 'reference',
      'answers': distinct texts, 'answer_of': [index into answers per method], 'right': [0 or 1
      per method]}]}]}, methods without an answer being -1. At most MAX_ITEMS items a task;
      texts are cut at MAX_CHARS characters.
    """
    tasks = []
    for task, table in outcomes.items():
        known = [method for method in methods if method in table]
        by_item: dict[str, dict[str, Row]] = {}
        for method in known:
            for item, row in table[method].items():
                by_item.setdefault(item, {})[method] = row
        sources = {str(source['item']): source for source in eval_items.get(task, ())}
        items = [
            _item(item, rows, known, sources.get(item, {}))
            for item, rows in list(by_item.items())[:MAX_ITEMS]
        ]
        tasks.append({'task': task, 'n': len(by_item), 'methods': known, 'items': items})
    return {'tasks': tasks}


def _item(
    name: str, rows: Mapping[str, Row], methods: Sequence[str], source: ReadOnlyJson
) -> JsonDict:
    """One item of the browser; equal answers of several methods are stored once."""
    answers: dict[str, int] = {}
    answer_of, right = [], []
    for method in methods:
        row = rows.get(method)
        if row is None:
            answer_of.append(-1)
            right.append(0)
        else:
            text = _cut(row.get('prediction'))
            answer_of.append(answers.setdefault(text, len(answers)))
            right.append(int(bool(row['correct'])))
    reference = next((row.get('reference') for row in rows.values()), None)
    return {
        'item': name,
        'prompt': _cut(source.get('prompt')),
        'reference': _cut(source.get('reference', reference)),
        'answers': list(answers),
        'answer_of': answer_of,
        'right': right,
    }


def _cut(value: Any) -> str:
    """A text of at most MAX_CHARS characters; other values as JSON."""
    if value is None:
        return ''
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    extra = len(text) - MAX_CHARS
    return text if extra <= 0 else f'{text[:MAX_CHARS]} [{extra} more characters]'
