"""Colours by role, and pictures that follow the theme of the page."""

import re

from matplotlib.figure import Figure

from lorajax.report.figures import style

PART = {'selected_method': 'delta_ridge', 'learned_methods': ['delta_ridge', 'global_ridge']}


def test_every_role_has_a_colour_of_its_own():
    methods = ['base', 'placebo', 'global_ridge', 'delta_ridge', 'distilled', 'oracle']
    colours = [style.role_colour(method, PART) for method in methods]
    assert len(set(colours)) == len(methods)
    assert style.role_colour('mean', PART) == style.role_colour('base', PART)
    labels = [handle.get_label() for handle in style.role_handles(methods, PART)]
    assert len(labels) == len(methods)
    assert [h.get_label() for h in style.role_handles(['base', 'oracle'], PART)] == [
        'base, mean', 'oracle: retrained on the target',
    ]  # fmt: skip


def test_svg_leaves_ink_and_greys_to_the_page():
    figure = Figure(figsize=(2, 1))
    axis = figure.subplots()
    for colour in (style.INK, style.LINE, style.GREY, style.PALE, style.BLUE):
        axis.plot([0, 1], [0, 1], color=colour)
    text = style.to_svg(figure)
    assert not re.search('|'.join((style.INK, style.LINE, style.GREY, style.PALE)), text)
    assert all(name in text for name in ('currentColor', 'var(--line)', 'var(--pale)', style.BLUE))
    assert 'min-width:144px' in text and '<metadata' not in text


def test_same_figure_same_bytes():
    def picture():
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([0, 1], [1, 0])
        return style.to_svg(figure), style.to_png(figure)

    assert picture() == picture()
