"""How much the adapters of one model resemble each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lorajax.report.figures.style import PALE

Results = Mapping[str, Any]


def similarity_figure(results: Results) -> Figure | None:
    """Cosine between the adapters of a model, from a mapping's diagnostics."""
    similarity = None
    for values in results['diagnostics'].values():
        if isinstance(values, dict) and isinstance(values.get('similarity'), dict):
            similarity = values['similarity']
            break
    if not similarity:
        return None
    heldouts = {row['task'] for row in results['experiment1']['rows']}
    sides = [side for side in ('source', 'target') if similarity.get(side)]
    size = max(len(similarity[side]) for side in sides)
    figure = Figure(
        figsize=((0.23 * size + 2.6) * len(sides), 0.23 * size + 2.2), layout='constrained'
    )
    axes = figure.subplots(1, len(sides), squeeze=False)[0]
    for axis, side in zip(axes, sides, strict=True):
        table = np.array(similarity[side], np.float64)
        np.fill_diagonal(table, np.nan)
        tasks = list(similarity['tasks'])[: len(table)]
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
