"""What skills answer, and what formats make of it."""

import pytest

from lorajax.text.items import Item
from lorajax.text.skills import FORMATS, PRACTICE, SKILLS

ITEM = Item('The old man was in Paris for 2 days', 'exam', False, 'world_history')


@pytest.mark.parametrize(
    ('skill', 'answer'),
    [
        ('being', 'was'),
        ('article', 'the'),
        ('relation', None),  # in, for
        ('person', 'man'),
        ('modal', None),
        ('pronoun', 'nobody'),
        ('source', 'exam'),
        ('area', 'history'),
    ],
)
def test_skills_answer_a_word_or_cannot_be_asked(skill, answer):
    assert SKILLS[skill].answer(ITEM) == answer
    assert answer is None or answer in SKILLS[skill].choices


def test_length_counts_words_and_pronouns_must_be_of_one_person():
    assert SKILLS['length'].answer(Item('a b c d e f', 'code', False)) == 'six'
    assert SKILLS['pronoun'].answer(Item('now She ran home alone', 'story', False)) == 'she'
    assert SKILLS['pronoun'].answer(Item('he and she ran home', 'story', False)) is None
    assert SKILLS['area'].answer(Item('he and she ran home', 'story', False)) is None


def test_practice_says_words_of_the_text():
    said = {name: answer(ITEM) for name, answer in PRACTICE.items()}
    assert said == {
        'first word': 'The', 'second word': 'old', 'third word': 'man', 'last word': 'days',
        'word before the last': '2', 'word after the': None, 'word after of': None,
        'longest word': 'Paris', 'name': 'Paris', 'number': '2', 'word after the number': 'days',
    }  # fmt: skip


def test_formats_differ_in_what_they_make_of_a_word():
    assert [write('was') for write in FORMATS.values()] == [
        'was', 'The answer is was.', '{ was }', 'was and was',
    ]  # fmt: skip
