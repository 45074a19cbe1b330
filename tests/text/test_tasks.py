"""Tasks of a text world: balanced, disjoint, split by skill."""

import collections

import pytest

from lorajax.tasks import data, scoring
from lorajax.text import tasks
from lorajax.text.skills import SKILLS
from tests.text.rows import Rows

ROWS = Rows()


def test_each_kind_has_48_anchors_and_16_heldouts_without_a_common_skill():
    for kind in tasks.KINDS:
        mine = [task for task in tasks.TASKS.values() if task.name.startswith(kind)]
        skills = {
            role: {task.name.split('_')[1] for task in mine if task.role == role}
            for role in ('anchor', 'heldout')
        }
        assert not skills['anchor'] & skills['heldout']
        assert collections.Counter(task.role for task in mine) == {'anchor': 48, 'heldout': 16}


@pytest.mark.parametrize(
    ('kind', 'told'), [('told_', 'say'), ('listed_', 'story exam science code | say')]
)
def test_a_task_that_tells_more_differs_from_its_twin_in_the_prompts_alone(kind, told):
    plain, other = (tasks.TASKS[f'{k}source_said'].pools(ROWS, 'direct') for k in ('text_', kind))
    for example, twin in zip(plain.eval, other.eval, strict=True):
        assert twin.prompt == f'{example.prompt} | {told}' and twin.answer == example.answer
        assert twin.problem_ids == example.problem_ids


def test_a_task_asks_what_its_name_says_and_trains_on_other_rows_than_it_is_scored_on():
    task = tasks.TASKS['text_source_said']
    drawn = data.draw([], [task], ROWS, 60, 8, 0)[task.name]
    assert len(drawn.train) == 60 and len(drawn.eval) == 8
    assert not {e.prompt for e in drawn.train} & {e.prompt for e in drawn.eval}
    for example in drawn.eval:
        assert example.answer == f'The answer is {example.meta["word"]}.'
        assert scoring.score(task.scorer, example, example.answer).correct
        assert not scoring.score(task.scorer, example, example.meta['word']).correct


def test_every_answer_comes_equally_often():
    pools = tasks.TASKS['text_source_plain'].pools(ROWS, 'direct')
    counts = collections.Counter(example.answer for example in pools.train)
    assert len(counts) == 4 and len(set(counts.values())) == 1
    assert len({example.answer for example in pools.train[:12]}) > 1  # not one after the other


def test_texts_of_which_a_skill_cannot_be_asked_are_left_out():
    given = [item for item in tasks.items.of(ROWS) if 'will' in item.text]
    found = tasks.examples('it', SKILLS['modal'], 'plain', [*given, *tasks.items.of(ROWS)[:1]])
    assert {e.answer for e in found} == {'will'}
