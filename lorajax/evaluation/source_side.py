"""What the source model can do, bare and with its adapters, and what is lost on the way from it."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorajax.evaluation.outcomes import Table

BARE, ADAPTED = 'base', 'oracle'  # the names that the source's outcomes have


def summary(
    main: Mapping[str, Table], source: Mapping[str, Table], methods: Sequence[str]
) -> dict[str, Any]:
    """Returns the source's accuracy on each held-out, and the flips of every method against it.

    A negative flip is an item that the source answers rightly with its adapter and the target
    wrongly with a translation of it; a positive flip is the reverse (Yan et al. 2021,
    "Positive-congruent training", section 3).

    Args:
      main: {task: outcomes of the target}.
      source: {task: outcomes of the source}, of some held-outs or of none.
      methods: whose flips are counted, those without outcomes left out.

    Returns:
      {'run': bool, 'tasks': {task: {'n': items that both answered, 'base': accuracy, 'adapter':
      accuracy, 'flips': {method: {'negative': share of the n items, 'positive': share}}}}}.
    """
    tasks = {
        task: found
        for task, table in main.items()
        if task in source and (found := _of_task(table, source[task], methods))
    }
    return {'run': bool(tasks), 'tasks': tasks}


def _of_task(table: Table, source: Table, methods: Sequence[str]) -> dict[str, Any] | None:
    """Returns the entry of one held-out; None if no item was answered on both sides."""
    bare, adapted = source.get(BARE, {}), source.get(ADAPTED, {})
    items = [item for item in table[BARE] if item in bare and item in adapted]
    if not items:
        return None

    def share(right: Sequence[bool]) -> float:
        return sum(right) / len(items)

    def flips(method: str) -> dict[str, float]:
        pairs = [(adapted[i]['correct'], table[method][i]['correct']) for i in items]
        return {
            'negative': share([bool(before) and not after for before, after in pairs]),
            'positive': share([bool(after) and not before for before, after in pairs]),
        }

    return {
        'n': len(items),
        'base': share([bool(bare[item]['correct']) for item in items]),
        'adapter': share([bool(adapted[item]['correct']) for item in items]),
        'flips': {m: flips(m) for m in methods if all(i in table.get(m, {}) for i in items)},
    }
