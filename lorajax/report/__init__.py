"""The report of a run: its results in words, tables and pictures.

    results.json, config.json, outcomes --write--> ROUND4_REPORT.md, report.html, *.png

`sections` say the numbers in words, `outline` puts the sections in order, `document` is the tree
that `markdown` and `html` render, `figures` are the pictures. Nothing here loads a model.
"""

from lorajax.report.writer import write

__all__ = ['write']
