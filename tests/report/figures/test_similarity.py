"""The figure of how adapters resemble each other."""

import numpy as np

from lorajax.report.figures.similarity import similarity_figure
from tests.report.figures.reading import texts


def test_a_matrix_for_each_side_without_its_diagonal():
    cosines = np.array([[1, 0.5, 0.1], [0.5, 1, 0.2], [0.1, 0.2, 1]])
    similarity = {
        'tasks': ['a', 'b', 'held'],
        'source': cosines.tolist(),
        'target': (cosines / 2).tolist(),
    }
    results = {
        'experiment1': {'rows': [{'task': 'held'}]},
        'diagnostics': {'x': {'loo_r2': 0.1}, 'y': {'similarity': similarity}},
    }
    figure = similarity_figure(results)
    matrices = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    off = ~np.eye(3, dtype=bool)
    for matrix, expected in zip(matrices, (cosines, cosines / 2), strict=True):
        assert np.array_equal(np.ma.filled(matrix, -1)[off], expected[off])
        assert not np.isfinite(np.ma.filled(matrix, np.nan)[~off]).any()
    # A white line on each side between the anchors and the held-out.
    assert [line.get_xdata()[0] for line in figure.axes[0].lines[:1]] == [1.5]
    assert 'source adapters: cosine, 3 tasks' in texts(figure)


def test_nothing_to_draw():
    assert similarity_figure({'diagnostics': {'x': {'loo_r2': 0.1}}}) is None
