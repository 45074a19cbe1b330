"""The tree of a report, and its cells as text."""

import pytest

from lorajax.report.document import (
    Bar,
    Chart,
    Column,
    Figure,
    Section,
    Table,
    cell_text,
    is_numeric,
    sort_value,
)


@pytest.mark.parametrize(
    ('value', 'form', 'text'),
    [
        (None, '.3f', '—'),
        (0.5, '.3f', '0.500'),
        (3, 'd', '3'),
        (True, '.3f', 'True'),
        ('word', '.3f', 'word'),
        ([0.1, 0.2], '.2f', '[0.10, 0.20]'),
        ([0.15, 0.1, 0.2], '.2f', '0.15 [0.10, 0.20]'),
        ([0.15, None, None], '.2f', '0.15'),
        ([None, None, None], '.2f', '—'),
    ],
)
def test_cell_text(value, form, text):
    assert cell_text(value, form) == text


def test_sort_values():
    assert sort_value([0.15, 0.1, 0.2]) == 0.15
    assert sort_value(True) == 1.0
    assert sort_value('x') == 'x'
    assert sort_value(None) is None


def test_numeric_columns():
    table = Table([Column('a'), Column('b'), Column('c')], [[1, True, None], [None, False, None]])
    assert [is_numeric(table, i) for i in range(3)] == [True, False, False]


def test_anchor_and_missing_figures():
    section = Section('Experiment 1 — Main table', [Figure('main', ''), Figure('none', '')])
    assert section.anchor == 'experiment-1-main-table'
    assert [block.name for block in section.only_figures({'main'}).blocks] == ['main']


def test_a_chart_knows_where_values_lie():
    bars = [Bar('a', 0.5, 0.25, 0.75, 'learned'), Bar('b', -9.0, None, None, 'control')]
    chart = Chart('gap', 'words', bars, {0.0: 'none', 1.0: 'all'})
    assert chart.place(1.0) == 100 and chart.place(-9.0) == chart.place(-0.5) == 0
    assert chart.place(0.25) == 50
    assert Chart('gap', 'words').place(0.0) == 0
