"""Figures are drawn in the style of the report."""

import matplotlib
import pytest

from lorajax.report.figures.style import STYLE


@pytest.fixture(autouse=True)
def house_style():
    """Sets fonts, titles and the rest as `gallery.draw` does."""
    with matplotlib.rc_context(STYLE):
        yield
