"""Gap recovered by every method, pooled over the usable held-outs."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lorajax.report.figures.style import INK, role_colour, role_handles

Results = Mapping[str, Any]


def gap_figure(results: Results) -> Figure | None:
    """Pooled gap recovered by accuracy and by loss, with bootstrap intervals."""
    part = results['experiment1']
    accuracy, loss = part['pooled_gap_recovered'], part['pooled_nll_gap_recovered']
    methods = sorted(accuracy, key=lambda method: -accuracy[method][0])
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
