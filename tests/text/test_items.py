"""Short texts out of rows, and which of them are held back."""

from lorajax.text import items
from tests.text.rows import Rows

ROWS = Rows()


def test_sentences_are_plain_parts_of_five_to_eight_words():
    text = 'Tom has 3 red apples, and it is so. Too short. Is f(x) of x a good function? Of all '
    text += 'the many words only eight are kept in order.'
    assert list(items.sentences(text)) == [
        'Tom has 3 red apples',
        'Of all the many words only eight are',
    ]


def test_items_say_where_they_are_from_and_stand_once():
    found = items.of(ROWS)
    assert {item.source for item in found} == {'story', 'exam', 'science', 'code'}
    assert len({item.text for item in found}) == len(found)
    texts = [item.text for item in found]
    assert 'Tom has 3 apples in his bag' in texts
    assert 'How many apples will he have when he' in texts
    assert {item.subject for item in found if item.source == 'exam'} == {'old_law', 'new_law'}


def test_one_row_in_five_is_held_back_whatever_its_punctuation():
    held = [items.is_held(f'Question {n} of many') for n in range(300)]
    assert 0.1 < sum(held) / 300 < 0.3
    assert held == [items.is_held(f'question {n}, of many .') for n in range(300)]
    assert {item.is_held for item in items.of(ROWS)} == {True, False}
