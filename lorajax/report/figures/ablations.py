"""Experiments 2 and 3: fewer anchors, and anchors of one domain."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorajax.report.figures.style import HUES, INK

Results = Mapping[str, Any]


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
