"""Experiments 2 and 3: the same held-outs with fewer, or with other, anchors.

Each cell (method, number of anchors, ...) is compared with base and oracle of experiment 1
on the very items it answered, so a run may score fewer items here than there.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lorajax.errors import InputError
from lorajax.evaluation import intervals
from lorajax.evaluation.intervals import Floats
from lorajax.evaluation.outcomes import Row

NUM_DRAWS = 500  # per cell; there are dozens

Answers = Mapping[str, bool]  # {item: correct}
Rows = Mapping[str, Sequence[Row]]  # {task: outcome rows}
Key = tuple[Any, ...]  # a cell's name


class Baselines(NamedTuple):
    """What experiment 1 says of the items.

    Attributes:
      answers: {task: {'base' | 'oracle': {item: correct}}}.
      problems: {task: {item: name of its problem}}; items of one problem, in any task, are
        resampled together.
      usable: tasks that count for gap_recovered.
    """

    answers: Mapping[str, Mapping[str, Answers]]
    problems: Mapping[str, Mapping[str, Hashable]]
    usable: Sequence[str]


class _Gains(NamedTuple):
    """What one cell gains on one task.

    Attributes:
      gain: float64[n], method - base of each item, summed over draws of anchors.
      gap: float64[n], oracle - base likewise.
      problems: n names.
    """

    gain: Floats
    gap: Floats
    problems: Sequence[Hashable]


def experiment2(rows: Rows, baselines: Baselines) -> dict[str, Any]:
    """Aggregates anchor count x top-k, several draws of anchors each.

    Args:
      rows: {task: outcome rows} with 'method', 'anchors' (count), 'top_k' (count or
        'all'), 'draw', 'item', 'correct'.
      baselines: of experiment 1.

    Returns:
      {'run': bool, 'cells': [{'method', 'anchors', 'top_k', 'draws', 'n', 'accuracy',
      'gap_recovered': [value, low, high], 'gap_recovered_by_draw'}]}. The interval is over
      problems, for the anchors drawn; how much the choice of anchors matters is seen from the
      values by draw. accuracy is the mean over tasks.

    Raises:
      InputError: if a row lacks a field, or its item is not among those of experiment 1.
    """
    cells = _collect(rows, baselines, ('method', 'anchors', 'top_k'), 'draw')
    return {
        'run': bool(cells),
        'cells': [
            {
                'method': method,
                'anchors': anchors,
                'top_k': top_k,
                **_summary(tasks, baselines),
            }
            for (method, anchors, top_k), tasks in sorted(cells.items(), key=_sort_key)
        ],
    }


def experiment3(rows: Rows, baselines: Baselines, domains: Mapping[str, str]) -> dict[str, Any]:
    """Aggregates anchors of one domain only, against each held-out domain.

    Args:
      rows: {task: outcome rows} with 'method', 'pool' (a domain or 'all'), 'item',
        'correct', and 'selected' (anchors by falling similarity) where a method picks some.
      baselines: of experiment 1.
      domains: {task: domain}.

    Returns:
      {'run': bool, 'cells': [{'method', 'pool', 'domain', 'tasks', 'n', 'accuracy',
      'gap_recovered': [value, low, high]}], 'best_pool': {domain: pool or None}, 'selected':
      {method: {pool: {task: [anchor]}}}, 'pools': [{'domain', 'pool', 'gap_recovered', 'behind':
      [value, low, high]}]}. best_pool goes by the gap recovered averaged over methods ('all' does
      not compete), and by accuracy where no task is usable; None is a tie. 'pools' has every pool,
      'all' too: its gap recovered pooled over methods, and by how much the best is ahead of it.

    Raises:
      InputError: as `experiment2`.
    """
    cells = []
    for domain in dict.fromkeys(domains[task] for task in rows):
        part = {task: lines for task, lines in rows.items() if domains[task] == domain}
        for (method, pool), tasks in _collect(part, baselines, ('method', 'pool'), None).items():
            summary = _summary(tasks, baselines)
            del summary['draws'], summary['gap_recovered_by_draw']
            names = {'method': method, 'pool': pool, 'domain': domain, 'tasks': list(tasks)}
            cells.append(names | summary)
    selected: dict[str, dict[str, dict[str, list[str]]]] = {}
    for task, lines in rows.items():
        for row in lines:
            if row.get('selected'):
                pools = selected.setdefault(row['method'], {})
                pools.setdefault(row['pool'], {}).setdefault(task, list(row['selected']))
    return {
        'run': bool(cells),
        'cells': cells,
        'best_pool': (best := _best_pools(cells)),
        'pools': _pools(rows, baselines, domains, best),
        'selected': selected,
    }


def _collect(
    rows: Rows, baselines: Baselines, names: Sequence[str], draw: str | None
) -> dict[Key, dict[str, dict[Any, dict[str, bool]]]]:
    """Groups rows: {cell: {task: {draw: {item: correct}}}}."""
    cells: dict[Key, dict[str, dict[Any, dict[str, bool]]]] = {}
    for task, lines in rows.items():
        for row in lines:
            for name in [*names, draw] if draw else names:
                if name not in row:
                    raise InputError(
                        f'outcomes of {task}: a row of {row["method"]} has no {name!r}'
                    )
            if row['item'] not in baselines.answers[task]['base']:
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


def _summary(tasks: Mapping[str, Mapping[Any, Answers]], baselines: Baselines) -> dict[str, Any]:
    """Pools one cell: gap recovered over usable tasks, accuracy averaged over all."""
    draws = list(dict.fromkeys(d for by_draw in tasks.values() for d in by_draw))
    accuracy = [
        float(np.mean([c for answers in by_draw.values() for c in answers.values()]))
        for by_draw in tasks.values()
    ]
    usable = [task for task in baselines.usable if task in tasks]
    return {
        'draws': draws,
        'n': sum(len(answers) for by_draw in tasks.values() for answers in by_draw.values()),
        'accuracy': sum(accuracy) / len(accuracy),
        'gap_recovered': _ratio({t: _gains(t, tasks[t].values(), baselines) for t in usable}),
        'gap_recovered_by_draw': [
            _point([_gains(t, [tasks[t][d]], baselines) for t in usable if d in tasks[t]])
            for d in draws
        ],
    }


def _gains(task: str, draws: Iterable[Answers], baselines: Baselines) -> _Gains:
    """Returns gain and gap of each item that some draw answered."""
    base, oracle = baselines.answers[task]['base'], baselines.answers[task]['oracle']
    sums: dict[str, list[int]] = {}
    for answers in draws:
        for item, right in answers.items():
            entry = sums.setdefault(item, [0, 0])
            entry[0] += right - base[item]
            entry[1] += oracle[item] - base[item]
    gain, gap = np.array(list(sums.values()), np.float64).reshape(-1, 2).T
    return _Gains(gain, gap, [baselines.problems[task][item] for item in sums])


def _point(gains: Sequence[_Gains]) -> float | None:
    """Sum of gains over sum of gaps, None without a positive gap."""
    total = sum(float(g.gap.sum()) for g in gains)
    return sum(float(g.gain.sum()) for g in gains) / total if total > 0 else None


def _ratio(gains: Mapping[str, _Gains]) -> list[float | None]:
    """Pooled gap recovered with its bootstrap interval over problems."""
    point = _point(list(gains.values()))
    if point is None:
        return [None, None, None]
    sums, _ = intervals.resample(
        {task: {'gain': g.gain, 'gap': g.gap} for task, g in gains.items()},
        {task: g.problems for task, g in gains.items()},
        NUM_DRAWS,
    )
    gain = np.sum([s['gain'] for s in sums.values()], axis=0)
    gap = np.sum([s['gap'] for s in sums.values()], axis=0)
    return [point, *intervals.ratio_interval(gain, gap)]


def _pools(
    rows: Rows,
    baselines: Baselines,
    domains: Mapping[str, str],
    best: Mapping[str, str | None],
) -> list[dict[str, Any]]:
    """Pools every anchor pool of a domain over methods, and compares it with the best one."""
    found = []
    for domain in dict.fromkeys(domains[task] for task in rows):
        part = {
            task: lines
            for task, lines in rows.items()
            if domains[task] == domain and task in baselines.usable
        }
        by_pool: dict[str, dict[str, _Gains]] = {}
        for (pool,), tasks in _collect(part, baselines, ('pool',), 'method').items():
            by_pool[pool] = {
                t: _gains(t, answers.values(), baselines) for t, answers in tasks.items()
            }
        first = by_pool.get(best.get(domain) or '', {})
        found += [
            {
                'domain': domain,
                'pool': pool,
                'gap_recovered': _ratio(gains),
                'behind': _difference(first, gains) if pool != best.get(domain) else None,
            }
            for pool, gains in by_pool.items()
        ]
    return found


def _difference(first: Mapping[str, _Gains], other: Mapping[str, _Gains]) -> list[float | None]:
    """Gap recovered of one cell minus another's of the same items, with its interval."""
    if first.keys() != other.keys() or any(
        first[t].problems != other[t].problems or (first[t].gap != other[t].gap).any()
        for t in first
    ):
        return [None, None, None]
    lead = {t: _Gains(g.gain - other[t].gain, g.gap, g.problems) for t, g in first.items()}
    return _ratio(lead)


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
