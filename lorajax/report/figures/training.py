"""Training loss of the adapters, and how fast they trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorajax.report.figures.style import BLUE, GREEN, PALE

SMALLEST_LOSS = 1e-5  # metrics.jsonl keeps five decimals; a logarithmic axis needs a floor


def training_figure(metrics: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Training loss of every adapter, and tokens per second, over steps."""
    rows = [row for row in metrics if row.get('event') == 'train' and 'step' in row]
    sides = [s for s in ('source', 'target') if any(row.get('side') == s for row in rows)]
    if not sides:
        return None
    speed = any(row.get('tokens_per_second') is not None for row in rows)
    figure = Figure(figsize=(4.4 * len(sides) + 0.6, 4.9 if speed else 3.3), layout='constrained')
    axes = figure.subplots(
        1 + speed, len(sides), squeeze=False, sharex='col', sharey='row',
        height_ratios=[2.4, 1] if speed else None,
    )  # fmt: skip
    for column, side in enumerate(sides):
        mine = [row for row in rows if row.get('side') == side]
        curves = _curves(mine)
        axis = axes[0, column]
        for curve in curves.values():
            axis.plot(list(curve), list(curve.values()), color=PALE, linewidth=0.6, alpha=0.6)
        steps = sorted({step for curve in curves.values() for step in curve})
        middle = [np.median([c[s] for c in curves.values() if s in c]) for s in steps]
        axis.plot(steps, middle, color=BLUE, linewidth=2.2)
        axis.set_title(f'{side}: loss of {len(curves)} adapters (blue: median)')
        axis.grid(axis='y')
        if speed:
            points = {r['step']: r['tokens_per_second'] for r in mine if r.get('tokens_per_second')}
            axes[1, column].plot(list(points), list(points.values()), color=GREEN, linewidth=1.2)
            axes[1, column].set_ylim(0, 1.15 * max(r.get('tokens_per_second') or 0 for r in rows))
            axes[1, column].grid(axis='y')
        axes[-1, column].set_xlabel('step')
    _loss_scale(axes[0, 0])
    axes[0, 0].set_ylabel('nats per answer token')
    if speed:
        axes[1, 0].set_ylabel('tokens per second')
    return figure


def _loss_scale(axis: Axes) -> None:
    """A linear axis from 0, or a logarithmic one where losses fall below a hundredth."""
    lines = [np.asarray(line.get_ydata(), np.float64) for line in axis.lines]
    drawn = [line for line in lines if line.size]
    if not drawn:  # no row has a loss
        return
    highest, last = max(y.max() for y in drawn), min(y[-1] for y in drawn)
    if last < 0.01 * highest:
        axis.set_yscale('log')
        axis.yaxis.set_major_formatter('{x:g}')
        axis.set_ylim(bottom=0.7 * max(last, SMALLEST_LOSS))
    else:
        axis.set_ylim(bottom=0)


def _curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """{task: {step: loss}}; after a resume the later row of a step counts."""
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        tasks, losses = row.get('tasks') or [row.get('task', 'all')], row.get('loss')
        if not isinstance(losses, list):
            tasks, losses = ['mean of all' if len(tasks) > 1 else tasks[0]], [losses]
        for task, loss in zip(tasks, losses, strict=False):
            if loss is not None:
                curves.setdefault(task, {})[row['step']] = max(loss, SMALLEST_LOSS)
    return {task: dict(sorted(curve.items())) for task, curve in curves.items()}
