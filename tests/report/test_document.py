"""Cells as text and the Markdown form."""

import pytest

from lorajax.report.document import (
    Bullets,
    Column,
    Document,
    Figure,
    Section,
    Table,
    Text,
    cell_text,
    is_numeric,
    sort_value,
    to_markdown,
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


def test_markdown():
    table = Table([Column('task'), Column('x', '.1f')], [['a|b', 1.25], ['c\nd', None]], 'Caption')
    blocks = [Text('a <b> * `c` < 3'), Bullets(['one', 'two']), Figure('main', 'bars'), table]
    text = to_markdown(Document('Title', ['lead'], [Section('Part — 1', blocks)]))
    assert text.startswith('# Title\n\nlead\n\n## Part — 1\n\n')
    assert 'a &lt;b> \\* \\`c\\` < 3' in text
    assert '- one\n- two' in text and '![bars](main.png)' in text
    assert 'Caption\n\n| task | x |\n| --- | ---: |\n| a\\|b | 1.2 |\n| c d | — |' in text


def test_anchor_and_missing_figures():
    section = Section('Experiment 1 — Main table', [Figure('main', ''), Figure('none', '')])
    assert section.anchor == 'experiment-1-main-table'
    assert [block.name for block in section.only_figures({'main'}).blocks] == ['main']
