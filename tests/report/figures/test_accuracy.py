"""The figure of the main table."""

from lorajax.evaluation import stats
from lorajax.report.figures.accuracy import accuracy_figure
from lorajax.report.figures.style import to_svg
from tests.report.figures.reading import texts
from tests.seed_table import COUNTS


def test_numbers_and_sizes_are_in_the_figure():
    written = texts(accuracy_figure({'experiment1': stats.experiment1(COUNTS)}))
    assert 'arc_challenge (science, n = 299)' in written
    assert 'not usable: oracle − base +0.7 pp' in written
    assert '0.293' in written


def test_a_column_for_each_domain():
    figure = accuracy_figure({'experiment1': stats.experiment1(COUNTS)})
    titles = [axis.get_title(loc='left').split(' (')[0] for axis in figure.axes]
    assert titles == [
        'gsm_hard', 'mbpp_test_held', 'arc_challenge',
        'gsm8k_test_500', 'mbpp_plus', 'openbookqa_test',
    ]  # fmt: skip


def test_bars_are_as_long_as_the_accuracies_best_first():
    figure = accuracy_figure({'experiment1': stats.experiment1(COUNTS)})
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    usable = [row for task, row in COUNTS.items() if task != 'arc_challenge']  # 300 items each
    between = [method for method in usable[0] if method not in ('n', 'base', 'oracle')]
    between.sort(key=lambda method: -sum(row[method] for row in usable))
    by_score = ['oracle', *between, 'base']
    assert widths == [COUNTS['gsm_hard'][m] / 300 for m in by_score]


def test_nothing_to_draw():
    empty = {'t': {'n': 0, 'base': 0, 'oracle': 0}}
    assert accuracy_figure({'experiment1': stats.experiment1(empty)}) is None
    assert accuracy_figure({'experiment1': stats.experiment1({})}) is None


def test_methods_that_a_task_lacks_leave_a_gap():
    counts = {'a': {'n': 9, 'base': 1, 'x': 2, 'oracle': 9}, 'b': {'n': 9, 'base': 1, 'oracle': 9}}
    figure = accuracy_figure({'experiment1': stats.experiment1(counts)})
    assert [len(axis.patches) for axis in figure.axes] == [3, 2]
    assert '</svg>' in to_svg(figure)
