"""Experiments 2 and 3: the same held-outs with fewer, or with other, anchors.

Each cell (method, number of anchors, ...) is compared with base and oracle of experiment 1
on the very items it answered, so a run may score fewer items here than there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lorajax.errors import InputError
from lorajax.evaluation import intervals
from lorajax.evaluation.intervals import Floats

NUM_DRAWS = 500  # per cell; there are dozens

# {task: {'base' | 'oracle': {item: correct}}}
Reference = dict[str, dict[str, dict[str, bool]]]
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
# A cell's name and, per anchor draw of it, {item: correct}.
Key = tuple[Any, ...]


def anchor_scaling(rows: Rows, reference: Reference, usable: Sequence[str]) -> dict[str, Any]:
    """Aggregates experiment 2: anchor count x top-k, several draws of anchors each.

    Args:
      rows: {task: outcome rows} with 'method', 'anchors' (count), 'top_k' (count or
        'all'), 'draw', 'item', 'correct'.
      reference: base and oracle of experiment 1.
      usable: tasks that count for gap_recovered.

    Returns:
      {'run': bool, 'cells': [{'method', 'anchors', 'top_k', 'draws', 'n', 'accuracy',
      'gap_recovered': [value, low, high], 'gap_recovered_by_draw'}]}. The interval is over
      items, for the anchors drawn; how much the choice of anchors matters is seen from the
      values by draw. accuracy is the mean over tasks.
    """
    cells = _collect(rows, reference, ('method', 'anchors', 'top_k'), 'draw')
    return {
        'run': bool(cells),
        'cells': [
            {
                'method': method,
                'anchors': anchors,
                'top_k': top_k,
                **_summary(tasks, reference, usable),
            }
            for (method, anchors, top_k), tasks in sorted(cells.items(), key=_sort_key)
        ],
    }


def domain_transfer(
    rows: Rows, reference: Reference, usable: Sequence[str], domains: Mapping[str, str]
) -> dict[str, Any]:
    """Aggregates experiment 3: anchors of one domain only, against each held-out domain.

    Args:
      rows: {task: outcome rows} with 'method', 'pool' (a domain or 'all'), 'item',
        'correct', and 'selected' (anchors by falling similarity) where a method picks some.
      reference: base and oracle of experiment 1.
      usable: tasks that count for gap_recovered.
      domains: {task: domain}.

    Returns:
      {'run': bool, 'cells': [{'method', 'pool', 'domain', 'tasks', 'n', 'accuracy',
      'gap_recovered': [value, low, high]}], 'best_pool': {domain: pool or None}, 'selected':
      {method: {pool: {task: [anchor]}}}}. best_pool goes by the gap recovered averaged over
      methods ('all' does not compete), and by accuracy where no task is usable; None is a tie.
    """
    cells = []
    for domain in dict.fromkeys(domains[task] for task in rows):
        part = {task: held for task, held in rows.items() if domains[task] == domain}
        for (method, pool), tasks in _collect(part, reference, ('method', 'pool'), None).items():
            summary = _summary(tasks, reference, usable)
            del summary['draws'], summary['gap_recovered_by_draw']
            names = {'method': method, 'pool': pool, 'domain': domain, 'tasks': list(tasks)}
            cells.append(names | summary)
    selected: dict[str, dict[str, dict[str, list[str]]]] = {}
    for task, held in rows.items():
        for row in held:
            if row.get('selected'):
                pools = selected.setdefault(row['method'], {})
                pools.setdefault(row['pool'], {}).setdefault(task, list(row['selected']))
    return {
        'run': bool(cells),
        'cells': cells,
        'best_pool': _best_pools(cells),
        'selected': selected,
    }


def _collect(
    rows: Rows, reference: Reference, names: Sequence[str], draw: str | None
) -> dict[Key, dict[str, dict[Any, dict[str, bool]]]]:
    """Groups rows: {cell: {task: {draw: {item: correct}}}}."""
    cells: dict[Key, dict[str, dict[Any, dict[str, bool]]]] = {}
    for task, held in rows.items():
        for row in held:
            for name in [*names, draw] if draw else names:
                if name not in row:
                    raise InputError(
                        f'outcomes of {task}: a row of {row["method"]} has no {name!r}'
                    )
            if row['item'] not in reference[task]['base']:
                raise InputError(
                    f'outcomes of {task}: item {row["item"]!r} is not among those of experiment 1'
                )
            key = tuple(row[name] for name in names)
            draws = cells.setdefault(key, {}).setdefault(task, {})
            draws.setdefault(row[draw] if draw else 0, {})[row['item']] = bool(row['correct'])
    return cells


def _sort_key(cell: tuple[Key, Any]) -> tuple[Any, ...]:
    """Orders cells by name with numbers as numbers and 'all' last."""
    return tuple(
        (0, value, '') if isinstance(value, int) else (1, 0, str(value)) for value in cell[0]
    )


def _summary(
    tasks: Mapping[str, Mapping[Any, Mapping[str, bool]]],
    reference: Reference,
    usable: Sequence[str],
) -> dict[str, Any]:
    """Pools one cell: gap recovered over usable tasks, accuracy averaged over all."""
    draws = list(dict.fromkeys(d for by_draw in tasks.values() for d in by_draw))
    accuracy = [
        float(np.mean([c for answers in by_draw.values() for c in answers.values()]))
        for by_draw in tasks.values()
    ]
    values = {t: _gains(tasks[t], reference[t]) for t in usable if t in tasks}
    return {
        'draws': draws,
        'n': sum(len(answers) for per in tasks.values() for answers in per.values()),
        'accuracy': sum(accuracy) / len(accuracy),
        'gap_recovered': _ratio(values),
        'gap_recovered_by_draw': [
            _point({t: _gains({d: tasks[t][d]}, reference[t]) for t in values if d in tasks[t]})
            for d in draws
        ],
    }


def _gains(
    by_draw: Mapping[Any, Mapping[str, bool]], reference: Mapping[str, Mapping[str, bool]]
) -> dict[str, Floats]:
    """Returns 'gain' (method - base) and 'gap' (oracle - base) per item, summed over draws."""
    items = list(dict.fromkeys(i for answers in by_draw.values() for i in answers))
    index = {item: place for place, item in enumerate(items)}
    gain, gap = np.zeros(len(items)), np.zeros(len(items))
    base, oracle = reference['base'], reference['oracle']
    for answers in by_draw.values():
        for item, right in answers.items():
            gain[index[item]] += right - base[item]
            gap[index[item]] += oracle[item] - base[item]
    return {'gain': gain, 'gap': gap}


def _point(values: Mapping[str, Mapping[str, Floats]]) -> float | None:
    """Sum of gains over sum of gaps, None without a positive gap."""
    total = sum(float(v['gap'].sum()) for v in values.values())
    return sum(float(v['gain'].sum()) for v in values.values()) / total if total > 0 else None


def _ratio(values: Mapping[str, Mapping[str, Floats]]) -> list[float | None]:
    """Pooled gap recovered with its bootstrap interval over items."""
    point = _point(values)
    if point is None:
        return [None, None, None]
    sums, _ = intervals.resample(values, num_draws=NUM_DRAWS)
    gains = np.sum([s['gain'] for s in sums.values()], axis=0)
    gaps = np.sum([s['gap'] for s in sums.values()], axis=0)
    return [point, *intervals.ratio_interval(gains, gaps)]


def _best_pools(cells: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """The single-domain pool that serves each held-out domain best; None if several do."""
    scores: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for cell in cells:
        if cell['pool'] != 'all':
            gap = cell['gap_recovered'][0]
            pools = scores.setdefault(cell['domain'], {})
            pools.setdefault(cell['pool'], []).append(
                (0.0 if gap is None else gap, cell['accuracy'])
            )
    best: dict[str, str | None] = {}
    for domain, pools in scores.items():
        means = {pool: tuple(np.mean(pairs, axis=0)) for pool, pairs in pools.items()}
        first = [pool for pool, mean in means.items() if mean == max(means.values())]
        best[domain] = first[0] if len(first) == 1 else None
    return best
