"""Figures of the report, drawn from results.json and metrics.jsonl.

`draw` makes all of them; this file holds the two of experiment 1. Everything that carries a
number is also labelled in words.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lorajax.report.figures.more import (
    loss_figure,
    scaling_figure,
    similarity_figure,
    transfer_figure,
)
from lorajax.report.figures.style import INK, STYLE, role_colour, role_handles, to_png, to_svg

Results = Mapping[str, Any]
Drawing = Callable[[], Figure | None]


def draw(
    results: Results, metrics: Sequence[Mapping[str, Any]] = ()
) -> dict[str, tuple[bytes, str]]:
    """Draws every figure whose data exist.

    Args:
      results: content of results.json.
      metrics: rows of metrics.jsonl; those with event 'train' are drawn.

    Returns:
      {name: (PNG bytes, SVG text)} with names main, gap, scaling, transfer, similarity,
      loss. The SVG takes its ink from the CSS property `color`, its grid and greys from
      the variables --line, --grey and --pale, so that it follows the theme of the page.
    """
    drawings: dict[str, Drawing] = {
        'main': lambda: main_figure(results),
        'gap': lambda: gap_figure(results),
        'scaling': lambda: scaling_figure(results),
        'transfer': lambda: transfer_figure(results),
        'similarity': lambda: similarity_figure(results),
        'loss': lambda: loss_figure(metrics),
    }
    pictures = {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        for name, drawing in drawings.items():
            figure = drawing()
            if figure is not None:
                pictures[name] = (to_png(figure), to_svg(figure))
    return pictures


def main_figure(results: Results) -> Figure | None:
    """Bars of accuracy per held-out, one panel each, 95 % Wilson intervals."""
    part = results['experiment1']
    rows = [row for row in part['rows'] if row['n']]
    if not rows:
        return None
    methods = list(dict.fromkeys(m for row in rows for m in row['correct']))
    methods = [m for m in methods if m != 'oracle'] + ['oracle']
    grid = _panel_grid(rows)
    height = len(grid) * (0.21 * len(methods) + 0.85) + 0.75
    figure = Figure(figsize=(3.1 * len(grid[0]) + 1.6, height), layout='constrained')
    axes = figure.subplots(len(grid), len(grid[0]), squeeze=False)
    for line, places in zip(grid, axes, strict=True):
        for column, (row, axis) in enumerate(zip(line, places, strict=True)):
            if row is None:
                axis.set_axis_off()
            else:
                _bars(axis, row, methods, part, names=column == 0)
    figure.suptitle(
        'Accuracy on each held-out task, with 95 % Wilson intervals', x=0.01, ha='left', size=12
    )
    figure.legend(handles=role_handles(methods, part), loc='outside lower center', ncols=6)
    return figure


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


def gap_figure(results: Results) -> Figure | None:
    """Pooled gap recovered by accuracy and by loss, with bootstrap intervals."""
    part = results['experiment1']
    accuracy, loss = part['pooled_gap_recovered'], part['pooled_nll_gap_recovered']
    methods = list(accuracy)
    if not methods:
        return None
    figure = Figure(figsize=(8.2, 0.36 * len(methods) + 1.7), layout='constrained')
    axis = figure.subplots()
    for x in (0, 1):
        axis.axvline(x, color=INK, linewidth=0.7)
    for place, method in enumerate(methods):
        colour = role_colour(method, part)
        for values, shift, marker, face in (
            (accuracy[method], -0.14, 'o', colour),
            (loss.get(method), 0.18, 'D', 'none'),
        ):
            if values is None:
                continue
            value, low, high = values
            if low is not None:
                axis.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.6)
            axis.plot(
                value, place + shift, marker, color=colour, markerfacecolor=face, markersize=5.5
            )
    axis.set_yticks(range(len(methods)), methods)
    axis.tick_params(axis='y', length=0)
    axis.set_ylim(len(methods) - 0.4, -0.6)
    low, high = axis.get_xlim()
    axis.set_xlim(max(low, -1.0), min(max(high, 1.05), 2.0))
    axis.grid(axis='x')
    axis.set_xlabel('share of the gap recovered   (0 = base, 1 = oracle)')
    n = sum(row['n'] for row in part['rows'] if row['usable'])
    axis.set_title(
        f'Gap recovered, pooled over {len(part["usable"])} usable held-outs '
        f'({n} items), 95 % bootstrap intervals'
    )
    shapes = [Line2D([], [], marker='o', linestyle='', color=INK, label='accuracy')]
    if loss:
        shapes.append(
            Line2D(
                [],
                [],
                marker='D',
                linestyle='',
                color=INK,
                markerfacecolor='none',
                label='loss of the reference answers',
            )
        )
    figure.legend(
        handles=[*shapes, *role_handles(methods, part)], loc='outside lower center', ncols=3
    )
    return figure
