"""Figures: which are drawn, that they are well formed, that names cannot break them."""

import copy
import xml.etree.ElementTree as ElementTree

import pytest

from lorajax.evaluation import stats
from lorajax.report.figures import main as figures
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


def test_numbers_and_sizes_are_in_the_main_figure(seed_pictures):
    text = ''.join(ElementTree.fromstring(seed_pictures['main'][1]).itertext())
    assert 'arc_challenge (science, n = 299)' in text
    assert 'not usable: oracle − base +0.7 pp' in text
    assert '0.293' in text


def test_hostile_names():
    counts = {
        '$\\frac{1}{$ <script>': {'n': 9, 'base': 1, 'mean': 2, '</svg>&x_{1}$': 3, 'oracle': 9}
    }
    result = stats.experiment1(counts)
    for _, svg in figures.draw({'experiment1': result, **NOT_RUN}).values():
        assert '<script' not in svg and svg.count('</svg>') == 1
        ElementTree.fromstring(svg)


def test_losses_of_some_steps_may_be_missing():
    rows = [
        {'event': 'train', 'side': 'source', 'step': 1, 'tasks': ['a', 'b'], 'loss': [1.0, None]},
        {'event': 'train', 'side': 'source', 'step': 2, 'tasks': ['a', 'b'], 'loss': [0.5, 0.7]},
        {'event': 'train', 'side': 'source', 'step': 2, 'tasks': ['a', 'b'], 'loss': [0.4, 0.6]},
        {'event': 'train', 'side': 'target', 'step': 1, 'tasks': ['a'], 'loss': 0.3},
        {'event': 'memory', 'bytes': 1},
    ]
    pictures = figures.draw({'experiment1': stats.experiment1({}), **NOT_RUN}, rows)
    assert list(pictures) == ['loss']


def test_drawing_leaves_results_alone(found):
    before = copy.deepcopy(found)
    figures.draw(found)
    assert found == before
