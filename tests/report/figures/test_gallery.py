"""Figures: which are drawn, that they are well formed, that names cannot break them."""

import copy
import xml.etree.ElementTree as ElementTree

import pytest

from lorajax.evaluation import stats
from lorajax.report import figures
from lorajax.report.figures.style import INK, LINE
from tests.seed_table import COUNTS

NOT_RUN = {
    'experiment2': {'run': False, 'cells': []},
    'experiment3': {'run': False, 'cells': []},
    'diagnostics': {},
}


@pytest.fixture(scope='module')
def seed_pictures():
    return figures.draw({'experiment1': stats.experiment1(COUNTS), **NOT_RUN})


def test_only_figures_with_data_are_drawn(seed_pictures):
    assert list(seed_pictures) == ['main', 'gap']
    empty = figures.draw({'experiment1': stats.experiment1({}), **NOT_RUN})
    assert empty == {}


def test_pictures_are_png_and_svg(seed_pictures):
    for png, svg in seed_pictures.values():
        assert png.startswith(b'\x89PNG\r\n')
        assert ElementTree.fromstring(svg).tag.endswith('svg')
        assert INK not in svg and LINE not in svg and 'currentColor' in svg
        assert 'http' not in svg.replace('http://www.w3.org/', '')


def test_hostile_names():
    counts = {
        '$\\frac{1}{$ <script>': {'n': 9, 'base': 1, 'mean': 2, '</svg>&x_{1}$': 3, 'oracle': 9}
    }
    result = stats.experiment1(counts)
    for _, svg in figures.draw({'experiment1': result, **NOT_RUN}).values():
        assert '<script' not in svg and svg.count('</svg>') == 1
        ElementTree.fromstring(svg)


def test_drawing_leaves_results_alone(fake_results):
    before = copy.deepcopy(fake_results)
    figures.draw(fake_results)
    assert fake_results == before
