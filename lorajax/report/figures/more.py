"""Figures beside experiment 1: scaling, transfer, similarity of adapters, training."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorajax.report.figures.style import BLUE, GREEN, HUES, INK, PALE

Results = Mapping[str, Any]

SMALLEST_LOSS = 1e-5  # metrics.jsonl keeps five decimals; a logarithmic axis needs a floor


def scaling_figure(results: Results) -> Figure | None:
    """Experiment 2: gap recovered against number of anchors, one line per top-k."""
    cells = [c for c in results['experiment2']['cells'] if c['gap_recovered'][0] is not None]
    if not cells:
        return None
    methods = list(dict.fromkeys(cell['method'] for cell in cells))
    tops = list(dict.fromkeys(cell['top_k'] for cell in cells))
    figure = Figure(figsize=(4.2 * len(methods) + 1.2, 3.9), layout='constrained')
    axes = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    shades = dict(zip([t for t in tops if t != 'all'], itertools.cycle(HUES), strict=False))
    for axis, method in zip(axes, methods, strict=True):
        ends = []
        for shift, top_k in enumerate(tops):
            line = [c for c in cells if c['method'] == method and c['top_k'] == top_k]
            if not line:
                continue
            colour = shades.get(top_k, INK)
            x = [c['anchors'] + 0.12 * (shift - (len(tops) - 1) / 2) for c in line]
            axis.plot(x, [c['gap_recovered'][0] for c in line], '-o', color=colour, markersize=4)
            for place, cell in zip(x, line, strict=True):
                drawn = [v for v in cell['gap_recovered_by_draw'] if v is not None]
                axis.plot([place] * len(drawn), drawn, '_', color=colour, alpha=0.55)
            ends.append(
                (
                    line[-1]['gap_recovered'][0],
                    x[-1],
                    'all' if top_k == 'all' else f'top-{top_k}',
                    colour,
                )
            )
        axis.set_xticks(sorted({c['anchors'] for c in cells}))
        axis.axhline(0, color=INK, linewidth=0.7)
        axis.grid(axis='y')
        axis.set_title(method)
        axis.set_xlabel('anchors')
        _end_labels(axis, ends)
    axes[0].set_ylabel('share of the gap recovered')
    draws = max(len(cell['draws']) for cell in cells)
    tasks = len(results['experiment1']['usable'])
    figure.suptitle(
        f'Experiment 2: gap recovered, pooled over {tasks} usable held-outs\n'
        f'(lines: mean of {draws} draws of anchors; dashes: each draw)',
        x=0.01, ha='left', size=10,
    )  # fmt: skip
    return figure


def _end_labels(axis: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Writes each line's name at its right end, moved apart where they would overlap."""
    low, high = axis.get_ylim()
    gap, last = 0.055 * (high - low), -math.inf
    left, right = axis.get_xlim()
    axis.set_xlim(left, right + 0.2 * (right - left))
    edge = max((x for _, x, _, _ in ends), default=right)
    for y, _, label, colour in sorted(ends):
        last = max(y, last + gap)
        axis.text(edge + 0.03 * (right - left), last, label, color=colour, va='center', size=8)


def transfer_figure(results: Results) -> Figure | None:
    """Experiment 3: gap recovered, anchor pool against held-out domain."""
    cells = [c for c in results['experiment3']['cells'] if c['gap_recovered'][0] is not None]
    if not cells:
        return None
    methods = list(dict.fromkeys(cell['method'] for cell in cells))
    domains = list(dict.fromkeys(cell['domain'] for cell in cells))
    pools = list(dict.fromkeys(cell['pool'] for cell in cells))
    wide = min(3, len(methods))
    deep = math.ceil(len(methods) / wide)
    figure = Figure(
        figsize=(1.05 * len(pools) * wide + 2, (0.72 * len(domains) + 0.95) * deep + 0.6),
        layout='constrained',
    )
    axes = figure.subplots(deep, wide, squeeze=False).ravel()
    limit = max(0.05, *(abs(cell['gap_recovered'][0]) for cell in cells))
    for axis in axes[len(methods) :]:
        axis.set_axis_off()
    for axis, method in zip(axes, methods, strict=False):
        table = np.full((len(domains), len(pools)), np.nan)
        for cell in cells:
            if cell['method'] == method:
                place = domains.index(cell['domain']), pools.index(cell['pool'])
                table[place] = cell['gap_recovered'][0]
                _, low, high = cell['gap_recovered']
                text = f'{table[place]:.2f}'
                if low is not None:
                    text += f'\n[{low:.2f}, {high:.2f}]'
                dark = abs(table[place]) > 0.6 * limit
                axis.text(*place[::-1], text, ha='center', va='center', size=7.5,
                          color='#ffffff' if dark else '#000000')  # fmt: skip
        axis.imshow(table, cmap='PuOr_r', vmin=-limit, vmax=limit, aspect='auto')
        axis.set_xticks(range(len(pools)), [p if p == 'all' else f'{p}-only' for p in pools])
        axis.set_yticks(range(len(domains)), domains)
        axis.tick_params(length=0)
        axis.set_title(method)
    figure.supxlabel('anchor pool', size=9)
    figure.supylabel('held-out domain', size=9)
    figure.suptitle(
        'Experiment 3: share of the gap recovered, 95 % intervals', x=0.01, ha='left', size=10
    )
    return figure


def similarity_figure(results: Results) -> Figure | None:
    """Cosine between the adapters of a model, from a mapping's diagnostics."""
    found = None
    for values in results['diagnostics'].values():
        if isinstance(values, dict) and isinstance(values.get('similarity'), dict):
            found = values['similarity']
            break
    if not found:
        return None
    heldouts = {row['task'] for row in results['experiment1']['rows']}
    sides = [side for side in ('source', 'target') if found.get(side)]
    size = max(len(found[side]) for side in sides)
    figure = Figure(
        figsize=((0.23 * size + 2.6) * len(sides), 0.23 * size + 2.2), layout='constrained'
    )
    axes = figure.subplots(1, len(sides), squeeze=False)[0]
    for axis, side in zip(axes, sides, strict=True):
        table = np.array(found[side], np.float64)
        np.fill_diagonal(table, np.nan)
        tasks = list(found['tasks'])[: len(table)]
        image = axis.imshow(table, cmap='cividis')
        axis.set_facecolor(PALE)
        axis.set_xticks(range(len(tasks)), tasks, rotation=90, size=7)
        axis.set_yticks(range(len(tasks)), tasks, size=7)
        axis.tick_params(length=0)
        for edge in range(1, len(tasks)):
            if (tasks[edge] in heldouts) != (tasks[edge - 1] in heldouts):
                axis.axvline(edge - 0.5, color='#ffffff', linewidth=1.5)
                axis.axhline(edge - 0.5, color='#ffffff', linewidth=1.5)
        axis.set_title(f'{side} adapters: cosine, {len(tasks)} tasks (diagonal left out)')
        figure.colorbar(image, ax=axis, shrink=0.7).outline.set_visible(False)
    return figure


def loss_figure(metrics: Sequence[Mapping[str, Any]]) -> Figure | None:
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
        held = [row for row in rows if row.get('side') == side]
        curves = _curves(held)
        axis = axes[0, column]
        for curve in curves.values():
            axis.plot(list(curve), list(curve.values()), color=PALE, linewidth=0.6, alpha=0.6)
        steps = sorted({step for curve in curves.values() for step in curve})
        middle = [np.median([c[s] for c in curves.values() if s in c]) for s in steps]
        axis.plot(steps, middle, color=BLUE, linewidth=2.2)
        axis.set_title(f'{side}: loss of {len(curves)} adapters (blue: median)')
        axis.grid(axis='y')
        if speed:
            points = {r['step']: r['tokens_per_second'] for r in held if r.get('tokens_per_second')}
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
    drawn = [np.asarray(line.get_ydata(), np.float64) for line in axis.lines]
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
