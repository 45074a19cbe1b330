"""The run's own sections."""

from lorajax.report.document import Document, Figure
from lorajax.report.markdown import to_markdown
from lorajax.report.sections import run


def test_provenance_names_every_setting():
    config = {'b': [1, 2], 'a': None, 'versions': {'jax': '1', 'x': '2'}, 'deep': {'c': {'d': []}}}
    text = to_markdown(Document('', [], [run.provenance(config)]))
    rows = [line for line in text.splitlines() if line.startswith('| ')][2:]
    assert rows == [
        '| a | not set |',
        '| b | 1, 2 |',
        '| deep.c.d |  |',
        '| versions | jax = 1; x = 2 |',
    ]


def test_training_has_a_figure_where_there_are_curves():
    assert run.training(False) is None
    assert [type(block) for block in run.training(True).blocks] == [Figure]


def test_times_of_a_stage_that_went_on_are_summed_and_the_report_itself_is_left_out():
    row = {'event': 'stage', 'compile_count': 3, 'compile_seconds': 1.25, 'compile_cached': 2}
    rows = [
        {'event': 'train', 'step': 1},
        {**row, 'stage': 'train', 'seconds': 10.0},
        {**row, 'stage': 'train', 'seconds': 0.5},
        {**row, 'stage': 'map', 'seconds': 7.0},
        {**row, 'stage': 'report', 'seconds': 9.0},
    ]
    text = to_markdown(Document('', [], [run.times(rows)]))
    lines = [line for line in text.splitlines() if line.startswith('| ')][2:]
    assert lines == ['| train | 10.5 | 6 | 2.5 | 4 |', '| map | 7.0 | 3 | 1.2 | 2 |']
    assert run.times(rows[:1]) is None


def test_the_guide_defines_the_words():
    text = to_markdown(Document('', [], [run.reading_guide(['base', 'mean', 'oracle'])]))
    words = ('source, target:', 'held-out:', 'base:', 'oracle:', 'gap_recovered:', 'Wilson')
    assert all(word in text for word in words)
    assert "| mean | mean of the anchors' factors" in text and '| oracle |' not in text
