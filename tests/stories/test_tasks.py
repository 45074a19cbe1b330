"""Tasks over stories: sentences, and what comes next in a style."""

import dataclasses

from lorajax.stories import tasks
from lorajax.tasks import data, scoring
from lorajax.tasks.styles import STYLES

STORY = (
    'Once upon a time, there was a cat. The cat was very happy. It was fun. '
    '"Hello," said Lily. The dog wanted to play with them. They ran to the park. '
    'A very long sentence of words that nobody would want to read aloud to a child stands here.'
)


def test_passages_are_plain_sentences_with_what_follows():
    assert list(tasks.passages([STORY])) == [
        ('Once upon a time, there was a cat.', 'The cat was very happy.'),
        ('The dog wanted to play with them.', 'They ran to the park.'),
    ]


@dataclasses.dataclass
class Rows:
    """A row source of one story a split."""

    def rows(self, dataset, split):
        assert dataset is tasks.DATASET
        other = 'Tom saw a red ball near the box. He was a happy boy. It was a good day.'
        return [{'story': STORY if split == 'train' else other}]


def test_a_task_asks_for_the_next_sentence_in_its_style():
    task = tasks.TASKS['story_upper_loud']
    drawn = data.draw([task], [task], Rows(), 10, 10, 0)['story_upper_loud']
    (first, _), (held,) = drawn.train, drawn.eval
    assert {e.answer for e in drawn.train} == {'THE CAT WAS VERY HAPPY!', 'THEY RAN TO THE PARK!'}
    assert held.prompt == 'Tom saw a red ball near the box.'
    assert held.reference == held.answer == 'HE WAS A HAPPY BOY! IT WAS A GOOD DAY!'
    assert first.problem_ids != held.problem_ids
    assert scoring.score(task.scorer, held, held.answer).correct
    assert not scoring.score(task.scorer, held, held.answer.lower()).correct
    assert not scoring.score(task.scorer, held, '').correct


def test_there_is_a_task_for_every_style():
    assert [name.removeprefix('story_') for name in tasks.TASKS] == list(STYLES)
    assert {task.domain for task in tasks.TASKS.values()} == {'word', 'mark', 'other'}
