"""All figures of a report, drawn from results.json and metrics.jsonl.

Everything that carries a number is also labelled in words.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from lorajax.report.figures.ablations import scaling_figure, transfer_figure
from lorajax.report.figures.accuracy import accuracy_figure
from lorajax.report.figures.gap import gap_figure
from lorajax.report.figures.similarity import similarity_figure
from lorajax.report.figures.style import STYLE, to_png, to_svg
from lorajax.report.figures.training import training_figure

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
        'main': lambda: accuracy_figure(results),
        'gap': lambda: gap_figure(results),
        'scaling': lambda: scaling_figure(results),
        'transfer': lambda: transfer_figure(results),
        'similarity': lambda: similarity_figure(results),
        'loss': lambda: training_figure(metrics),
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
