"""What is written in a figure."""

import xml.etree.ElementTree as ElementTree

from matplotlib.figure import Figure

from lorajax.report.figures.style import to_svg


def texts(figure: Figure) -> str:
    """Returns all text of a figure, as its SVG holds it."""
    return ' '.join(ElementTree.fromstring(to_svg(figure)).itertext())
