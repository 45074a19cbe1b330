"""Accuracy of every method on each held-out."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorajax.report.figures.style import INK, role_colour, role_handles

Results = Mapping[str, Any]


def accuracy_figure(results: Results) -> Figure | None:
    """Bars of accuracy per held-out, one panel each, 95 % Wilson intervals.

    All panels have the methods in one order, between the oracle and the base: best first.
    """
    part = results['experiment1']
    rows = [row for row in part['rows'] if row['n']]
    if not rows:
        return None
    methods = _best_first(rows)
    grid = _panel_grid(rows)
    height = len(grid) * (0.21 * len(methods) + 0.85) + 0.75
    figure = Figure(figsize=(3.1 * len(grid[0]) + 1.6, height), layout='constrained')
    axes = figure.subplots(len(grid), len(grid[0]), squeeze=False)
    for line, row_of_axes in zip(grid, axes, strict=True):
        for column, (row, axis) in enumerate(zip(line, row_of_axes, strict=True)):
            if row is None:
                axis.set_axis_off()
            else:
                _bars(axis, row, methods, part, names=column == 0)
    figure.suptitle(
        'Accuracy on each held-out task, with 95 % Wilson intervals', x=0.01, ha='left', size=12
    )
    figure.legend(handles=role_handles(methods, part), loc='outside lower center', ncols=6)
    return figure


def _best_first(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns all methods: the oracle, others by mean accuracy over usable rows, the base.

    One that lacks a task stands behind those that have it.
    """
    scored = [row['accuracy'] for row in rows if row['usable']] or [r['accuracy'] for r in rows]
    methods = dict.fromkeys(m for row in rows for m in row['correct'])
    ends = ('oracle', 'base')
    between = sorted(
        (m for m in methods if m not in ends), key=lambda m: -sum(row.get(m, 0) for row in scored)
    )
    return [ends[0], *between, ends[1]]


def _panel_grid(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any] | None]]:
    """Places panels: a column per domain where there are a few domains, else three wide."""
    domains = list(dict.fromkeys(row['domain'] for row in rows))
    if 2 <= len(domains) <= 4:
        columns = [[row for row in rows if row['domain'] == domain] for domain in domains]
        depth = max(map(len, columns))
        return [[c[i] if i < len(c) else None for c in columns] for i in range(depth)]
    width = min(3, len(rows))
    padded = [*rows, *[None] * (-len(rows) % width)]
    return [list(padded[i : i + width]) for i in range(0, len(padded), width)]


def _bars(
    axis: Axes, row: Mapping[str, Any], methods: Sequence[str], part: Results, names: bool
) -> None:
    """One panel: a horizontal bar per method, its value in digits."""
    right = max(interval[1] for interval in row['ci95'].values())
    for place, method in enumerate(methods):
        if method not in row['accuracy']:
            continue
        value, (low, high) = row['accuracy'][method], row['ci95'][method]
        axis.barh(place, value, height=0.74, color=role_colour(method, part))
        axis.plot([low, high], [place, place], color=INK, linewidth=0.9, solid_capstyle='butt')
        axis.text(1.02 * right, place, f'{value:.3f}', va='center', size=7.5)
    for method in ('base', 'oracle'):
        axis.axvline(row['accuracy'][method], color=INK, linewidth=0.6, linestyle=(0, (2, 3)))
    axis.set_xlim(0, 1.22 * right)
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.set_yticks(range(len(methods)), methods if names else [''] * len(methods))
    axis.tick_params(axis='y', length=0)
    axis.set_xticks([t for t in axis.get_xticks() if t <= min(1.0, 1.02 * right)])
    axis.grid(axis='x')
    title = f'{row["task"]} ({row["domain"]}, n = {row["n"]})'
    if not row['usable']:
        title += f'\nnot usable: oracle − base {row["oracle_minus_base_pp"]:+.1f} pp'
    axis.set_title(title)
