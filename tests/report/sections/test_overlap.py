"""The overlap matrix in words."""

from lorajax.report.document import Document
from lorajax.report.markdown import to_markdown
from lorajax.report.sections.overlap import MAX_PAIRS, overlap


def _text(matrix):
    return to_markdown(Document('', [], [overlap(matrix)]))


def test_nonzero_overlap_is_counted():
    cells = {'mbpp': {'plus': {'id': 3, 'exact': 1, 'ngram13': 9}, 'hard': {'id': 0, 'exact': 0}}}
    text = _text({'cells': cells, 'train': {}})
    assert '1 of 2 cells are not zero' in text and '3 / 1 / 9' in text


def test_no_matrix():
    assert 'The run holds no overlap matrix.' in _text(None)
    assert 'The run holds no overlap matrix.' in _text({'cells': {}})


def test_what_the_rule_removed_shared_problems_and_blind_guesses():
    matrix = {
        'train': {'a': 100},
        'cells': {'a': {'h': {'id': 0}}},
        'before_the_rule': {'a': {'h': {'id': 7}}, 'b': {'h': {'id': 0}}},
        'shared_training': {'a': {f'other{i}': i + 1 for i in range(MAX_PAIRS + 3)}},
        'labels_only_prior': {'h': {'letter': 'C', 'accuracy': 0.26, 'chance': 0.25, 'n': 50}},
    }
    text = _text(matrix)
    assert '0 of 1 cells are not zero' in text
    removed = text.split('What the rule removed')[1]
    assert '| a | — | 7 |' in removed and '| b |' not in removed
    assert f'first: a and other{MAX_PAIRS + 2}: {MAX_PAIRS + 3};' in text
    assert 'and 3 more pairs' in text
    assert '| h | C | 0.260 | 0.250 | 50 |' in text
