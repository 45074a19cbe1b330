"""The figures of experiments 2 and 3."""

import numpy as np
import pytest

from lorajax.report.figures.ablations import scaling_figure, transfer_figure
from tests.report.figures.reading import texts

NOT_RUN = {'run': False, 'cells': []}


def test_a_line_for_every_top_k(fake_results):
    figure = scaling_figure(fake_results)
    (axis,) = figure.axes
    lines = [line.get_ydata().tolist() for line in axis.lines if line.get_marker() == 'o']
    cells = fake_results['experiment2']['cells']
    for top_k, line in zip((1, 2, 4, 'all'), lines, strict=True):
        assert line == [c['gap_recovered'][0] for c in cells if c['top_k'] == top_k]
    assert all(label in texts(figure) for label in ('top-1', 'top-4', 'all', 'anchors'))


def test_labels_at_the_ends_do_not_overlap():
    cell = {'method': 'm', 'anchors': 4, 'draws': [0], 'gap_recovered_by_draw': [0.5]}
    cells = [
        {**cell, 'top_k': k, 'gap_recovered': [0.5 + k / 1000, 0.0, 1.0], 'anchors': a}
        for k in (1, 2, 4, 8) for a in (4, 8)
    ]  # fmt: skip
    results = {'experiment1': {'usable': ['t']}, 'experiment2': {'run': True, 'cells': cells}}
    (axis,) = scaling_figure(results).axes
    low, high = axis.get_ylim()
    heights = sorted(text.get_position()[1] for text in axis.texts)
    # Eight points of text on an axis of about 190 points.
    assert len(heights) == 4 and min(np.diff(heights)) > 0.04 * (high - low)


def test_a_square_for_every_cell_of_experiment_3(fake_results):
    figure = transfer_figure(fake_results)
    cells = fake_results['experiment3']['cells']
    methods = list(dict.fromkeys(cell['method'] for cell in cells))
    for axis, method in zip(figure.axes, methods, strict=False):
        values = axis.images[0].get_array()
        expected = [c['gap_recovered'][0] for c in cells if c['method'] == method]
        assert values.ravel().tolist() == pytest.approx([v for v in expected if v is not None])
    assert 'math-only' in texts(figure)


def test_nothing_run():
    assert scaling_figure({'experiment2': NOT_RUN}) is None
    assert transfer_figure({'experiment3': NOT_RUN}) is None
