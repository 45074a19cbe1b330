"""The tasks of a text world: every skill in every format; some skills are for held-outs alone.

The prompt of a task called `text_...` is a short text and nothing else, so that only an adapter
says which skill and which format are meant. That of a task called `told_...` says the format, too,
in words that pretraining may have practised: a base that knows them answers in the format, and what
its adapter adds is the skill. That of a task called `listed_...` also lists the words to choose
from, as questions to an assistant do: the base can choose one, and often the right one.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterable

from lorajax.tasks.task import Example, Pools, RowSource, Task
from lorajax.text import items
from lorajax.text.items import Item
from lorajax.text.skills import FORMATS, SKILLS, TOLD, Skill

HELD_SKILLS = ('time', 'quantity', 'asking', 'source')
KINDS = ('text_', _TELLING := 'told_', _LISTING := 'listed_')
_MOST_TRAIN, _MOST_EVAL = 2000, 400  # examples


def examples(task: str, skill: Skill, form: str, given: Iterable[Item]) -> tuple[Example, ...]:
    """Returns what a skill asks of items, each answer equally often, in the order of a hash.

    Args:
      task: name, for the items' own; its beginning says what prompts tell.
      skill: what is asked.
      form: a key of `FORMATS`.
      given: texts; those of which the skill cannot be asked are left out.
    """
    by_answer: dict[str, list[Item]] = {}
    for item in given:
        answer = skill.answer(item)
        if answer is not None:
            by_answer.setdefault(answer, []).append(item)
    fewest = min(map(len, by_answer.values()), default=0)
    kept = [
        (item, answer)
        for answer, found in sorted(by_answer.items())
        for item in sorted(found, key=functools.partial(_rank, 'kept'))[:fewest]
    ]
    kept.sort(key=lambda pair: _rank('order', pair[0]))
    told = f' | {TOLD[form]}' if task.startswith((_TELLING, _LISTING)) else ''
    if task.startswith(_LISTING):
        told = f' | {" ".join(skill.choices)}{told}'
    return tuple(
        Example(
            item=f'{task}/{index}',
            prompt=item.text + told,
            answer=FORMATS[form](answer),
            reference=FORMATS[form](answer),
            problem_ids=(f'text/{item.text}',),
            meta={'skill': skill.name, 'format': form, 'word': answer},
        )
        for index, (item, answer) in enumerate(kept)
    )


def _rank(purpose: str, item: Item) -> bytes:
    """A hash that puts items in an order for a purpose."""
    return hashlib.sha256(f'{purpose} {item.text}'.encode()).digest()


def _pools(rows: RowSource, protocol: str, *, task: str, skill: Skill, form: str) -> Pools:
    """The first examples of each side."""
    del protocol
    sides: tuple[list[Item], list[Item]] = ([], [])
    for item in items.of(rows):
        sides[item.is_held].append(item)
    train, held = (examples(task, skill, form, side) for side in sides)
    return Pools(train=train[:_MOST_TRAIN], eval=held[:_MOST_EVAL])


def _task(kind: str, skill: Skill, form: str) -> Task:
    """The task of a kind of prompts, a skill and a format."""
    name = f'{kind}{skill.name}_{form}'
    return Task(
        name=name,
        domain=skill.kind,
        role='heldout' if skill.name in HELD_SKILLS else 'anchor',
        source='sentences of the data sets: four rows in five for training, one for evaluation',
        scorer='exact',
        pools=functools.partial(_pools, task=name, skill=skill, form=form),
    )


TASKS: dict[str, Task] = {
    task.name: task
    for task in itertools.starmap(_task, itertools.product(KINDS, SKILLS.values(), FORMATS))
}
