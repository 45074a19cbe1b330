"""How figures look: colours by role, fonts, and the two forms they are saved in.

Colours follow the role of a method, not its name, and are told apart by the colour-blind
(blue, vermilion, bluish green, purple, greys).
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lorajax.evaluation.roles import TRAINED_METHODS

INK = '#1b1f24'
LINE = '#dfe3e8'
GREY = '#8b929c'
PALE = '#abb2bc'
BLUE = '#3a82c4'
VERMILION = '#d9601a'
GREEN = '#1b9a77'
PURPLE = '#9d6bce'
# For lines without a role: readable on white and on the page's dark ground.
HUES = (BLUE, '#b07d12', PURPLE, GREEN, VERMILION)

STYLE: Any = {
    'font.family': 'sans-serif',
    'font.size': 9,
    'axes.titlesize': 9.5,
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': INK,
    'axes.labelcolor': INK,
    'axes.linewidth': 0.7,
    'text.color': INK,
    'xtick.color': INK,
    'ytick.color': INK,
    'xtick.major.width': 0.7,
    'ytick.major.width': 0.7,
    'grid.color': LINE,
    'grid.linewidth': 0.7,
    'axes.axisbelow': True,
    'legend.frameon': False,
    'text.parse_math': False,  # a dollar sign in a name is a dollar sign
    'svg.fonttype': 'none',  # text stays text: it can be searched and read aloud
    'svg.hashsalt': 'lorajax',
}


# Colours that the page chooses by its theme.
_THEMED = {
    INK: 'currentColor',
    LINE: 'var(--line)',
    GREY: 'var(--grey)',
    PALE: 'var(--pale)',
}


def to_png(figure: Figure) -> bytes:
    """Returns the figure on white, 160 dots per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=160, facecolor='white')
    return buffer.getvalue()


def to_svg(figure: Figure) -> str:
    """Returns an <svg> element without background, its ink, grid and greys left to CSS."""
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
    text = buffer.getvalue()
    text = text[text.index('<svg') :]
    text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
    width = 72 * figure.get_figwidth()
    # Between 1 and 1.4 CSS pixels a point: never blown up, never too small to read.
    style = f'style="min-width:{width:.0f}px;max-width:{1.4 * width:.0f}px"'
    head, body = text.split('>', 1)
    text = re.sub(r' (width|height)="[^"]*"', '', head) + f' {style}>' + body
    for colour, name in _THEMED.items():
        text = text.replace(colour, name)
    return text


def role_colour(method: str, part: Mapping[str, Any]) -> str:
    """Returns the colour of a method's role in `part`, the experiment1 of results.json."""
    if method == 'oracle':
        return GREEN
    if method == part['selected_method']:
        return VERMILION
    if method in ('base', 'mean'):
        return GREY
    if method in TRAINED_METHODS:
        return PURPLE
    return BLUE if method in part['learned_methods'] else PALE


def role_handles(methods: Sequence[str], part: Mapping[str, Any]) -> list[Line2D]:
    """Returns legend entries for the roles that occur among `methods`."""
    names = {
        GREY: 'base, mean',
        PALE: 'controls',
        BLUE: 'learned maps',
        VERMILION: 'fixed beforehand',
        PURPLE: 'also trains on the target',
        GREEN: 'oracle: retrained on the target',
    }
    used = {role_colour(m, part) for m in methods}
    return [
        Line2D([], [], marker='s', linestyle='', color=colour, label=label, markersize=7)
        for colour, label in names.items()
        if colour in used
    ]
