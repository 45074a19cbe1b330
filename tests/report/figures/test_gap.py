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
    values = [value for value, _, _ in part['pooled_gap_recovered'].values()]
    assert marks == sorted(values, reverse=True)
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert [part['pooled_gap_recovered'][name][0] for name in names] == marks


def test_losses_get_a_mark_of_their_own(fake_results):
    figure = gap_figure(fake_results)
    (axis,) = figure.axes
    marks = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == 'D']
    losses = fake_results['experiment1']['pooled_nll_gap_recovered']
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert marks == pytest.approx([losses[name][0] for name in names if name in losses])
    assert 'loss of the reference answers' in texts(figure)


def test_nothing_usable_is_not_drawn():
    part = stats.experiment1({'t': {'n': 9, 'base': 1, 'x': 1, 'oracle': 1}})
    assert gap_figure({'experiment1': part}) is None
