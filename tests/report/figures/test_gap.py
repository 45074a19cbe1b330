"""The figure of the pooled gap."""

import pytest

from lorajax.evaluation import stats
from lorajax.report.figures.gap import gap_figure
from tests.report.figures.reading import texts
from tests.seed_table import COUNTS


def test_a_mark_for_every_method_at_its_value():
    part = stats.experiment1(COUNTS)
    (axis,) = gap_figure({'experiment1': part}).axes
    marks = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == 'o']
    assert marks == [value for value, _, _ in part['pooled_gap_recovered'].values()]


def test_losses_get_a_mark_of_their_own(fake_results):
    figure = gap_figure(fake_results)
    (axis,) = figure.axes
    marks = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == 'D']
    losses = fake_results['experiment1']['pooled_nll_gap_recovered']
    assert marks == pytest.approx([value for value, _, _ in losses.values()])
    assert 'loss of the reference answers' in texts(figure)


def test_nothing_usable_is_not_drawn():
    part = stats.experiment1({'t': {'n': 9, 'base': 1, 'x': 1, 'oracle': 1}})
    assert gap_figure({'experiment1': part}) is None
