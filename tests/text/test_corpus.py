"""What a text world is pretrained on."""

import itertools

import numpy as np

from lorajax.text import corpus, items
from lorajax.text.skills import SKILLS
from tests.text.rows import Rows

ROWS = Rows()


def test_documents_are_rows_that_are_not_held_back():
    texts = list(corpus.documents(ROWS))
    questions = [row['question'] for row in ROWS.rows('gsm8k', 'train')]
    for question in questions:
        assert (question in texts) != items.is_held(question)
    assert any(text.endswith('courts? A short one. yes no') for text in texts)


def test_practice_names_what_it_asks_and_never_asks_as_a_task_does():
    held = {item.text for item in items.of(ROWS) if item.is_held}
    lines = list(itertools.islice(corpus.practice(ROWS, np.random.default_rng(0)), 300))
    for line in lines:
        prompt, name, answer = line.replace(corpus.ARROW, '|').split(' | ')
        assert prompt.strip() not in held and name and answer
        if name == 'last word':
            assert answer == prompt.split()[-1]
    assert any(' | braces ' in line for line in lines)


def test_practice_of_told_formats_is_answered_with_any_word():
    lines = list(itertools.islice(corpus.practice(ROWS, np.random.default_rng(0), 0.75), 200))
    told = [line for line in lines if ' | one word ' in line]
    places = set()
    for line in told:
        text, answer = line.split(f' | one word {corpus.ARROW} ')
        places.add(text.split().index(answer))
    assert len(told) > 20 and len(places) > 4
    assert not any('last word' in line for line in lines)  # nothing is left for named skills


def test_practice_of_lists_is_answered_with_the_word_of_the_text_and_lists_no_task_s_words():
    drawn = corpus.practice(ROWS, np.random.default_rng(0), listed=0.75)
    listed = [line for line in itertools.islice(drawn, 200) if line.count(' | ') == 2]
    asked = {word for skill in SKILLS.values() for word in skill.choices}
    places = set()
    for line in listed:
        text, choices, rest = line.lower().split(' | ')
        found = set(choices.split()) & set(text.split())
        assert len(found) == 1 and found < set(rest.replace('.', '').split())
        assert not asked & set(choices.split())
        places.add(choices.split().index(*found))
    assert len(listed) > 100 and len(places) > 3
