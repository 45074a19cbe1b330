"""Pictures of results, in PNG for Markdown and as SVG that follows the theme of the page."""

from lorajax.report.figures.gallery import draw

__all__ = ['draw']
