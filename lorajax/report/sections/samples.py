"""A few questions with the answers to them, so that one sees what the numbers stand for."""

from collections.abc import Iterator, Mapping
from typing import Any

from lorajax.report.document import Column, Section, Table

_MOST_TASKS = 6
_MOST_CHARS = 200
_COLUMNS = {'base': 'without an adapter', 'oracle': 'retrained'}


def samples(browser: Mapping[str, Any], selected: str | None) -> Section | None:
    """Two items of each held-out task: one that the method got right, and one that it missed.

    Args:
      browser: from `item_browser.item_browser`.
      selected: the method fixed beforehand; without one there are no samples.
    """
    rows = [
        row for task in browser['tasks'][:_MOST_TASKS] for row in _rows(task, selected or '')
    ]  # fmt: skip
    if not rows:
        return None
    names = [_COLUMNS['base'], f'translated ({selected})', _COLUMNS['oracle']]
    columns = [Column('Task'), Column('Question'), Column('Expected'), *map(Column, names)]
    caption = (
        'Items that the target model gets wrong without an adapter and right with a retrained one: '
        'of each task the first that the translated adapter gets right, and the first that it does '
        'not.'
    )
    return Section('Sample answers', [Table(columns, rows, caption)])


def _rows(task: Mapping[str, Any], selected: str) -> Iterator[list[str]]:
    """Yields the rows of one task."""
    methods = task['methods']
    if not {'base', 'oracle', selected} <= set(methods):
        return
    base, method, oracle = (methods.index(name) for name in ('base', selected, 'oracle'))
    for wanted in (True, False):
        for item in task['items']:
            right = item['right']
            if right[oracle] and not right[base] and bool(right[method]) == wanted:
                answers = [_answer(item, place) for place in (base, method, oracle)]
                yield [task['task'], _cut(item['prompt']), _cut(item['reference']), *answers]
                break


def _answer(item: Mapping[str, Any], place: int) -> str:
    """An answer with a tick or a cross before it."""
    index = item['answer_of'][place]
    text = '' if index < 0 else item['answers'][index]
    return f'{"✓" if item["right"][place] else "✗"} {_cut(text)}'


def _cut(text: str) -> str:
    """The beginning of a text, on one line."""
    text = ' '.join(text.split())
    return text if len(text) <= _MOST_CHARS else f'{text[:_MOST_CHARS]} …'
