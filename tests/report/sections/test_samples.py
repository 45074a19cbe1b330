"""Sample answers are those that show what the numbers stand for."""

from lorajax.report.sections.samples import samples


def item(prompt, right):
    """An item that base, map and oracle answer with 'b', 'm' and 'o'."""
    return {
        'item': prompt, 'prompt': prompt, 'reference': 'r', 'answers': ['b', 'm', 'o'],
        'answer_of': [0, 1, 2], 'right': right,
    }  # fmt: skip


BROWSER = {'tasks': [{'task': 't', 'n': 4, 'methods': ['base', 'map', 'oracle'], 'items': [
    item('all right', [1, 1, 1]), item('helped', [0, 1, 1]), item('helped, too', [0, 1, 1]),
    item('missed\nby the map ' + 300 * 'x', [0, 0, 1]),
]}]}  # fmt: skip


def test_one_that_helped_and_one_that_was_missed():
    (table,) = samples(BROWSER, 'map').blocks
    assert [column.name for column in table.columns][3:] == [
        'without an adapter', 'translated (map)', 'retrained'
    ]  # fmt: skip
    helped, missed = table.rows
    assert helped == ['t', 'helped', 'r', '✗ b', '✓ m', '✓ o']
    assert missed[1].startswith('missed by the map xxx') and missed[1].endswith(' …')
    assert missed[4] == '✗ m' and len(missed[1]) < 210


def test_there_are_none_without_a_method_or_answers():
    assert samples(BROWSER, None) is None
    assert samples(BROWSER, 'other') is None
    assert samples({'tasks': []}, 'map') is None
