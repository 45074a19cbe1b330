"""Tasks for pretrained models that only tell stories: go on with a story in a style.

The text is sampled from models (`lorajax.stories.sample`). A prompt is one plain sentence, so that
nothing but an adapter says which style is meant; the answer is what comes next, in the style.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lorajax.tasks.styles import STYLES
from lorajax.tasks.task import Dataset, Example, Pools, RowSource, Task

DATASET = Dataset('stories', fields={'story': str})
_BREAK = re.compile(r'(?<=[.!?"])\s+|\n')
_PLAIN = re.compile(r"[A-Z][A-Za-z ,']{13,54}\.")  # of letters alone, as no style handles quotes
_MOST_CHARACTERS = 70  # of an answer before it is put in a style


def passages(stories: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields a sentence and what comes next, one or two sentences, wherever both are plain."""
    for story in stories:
        sentences = [sentence.strip() for sentence in _BREAK.split(story)]
        is_plain = [bool(_PLAIN.fullmatch(sentence)) for sentence in sentences]
        index = 0
        while index + 1 < len(sentences):
            if not (is_plain[index] and is_plain[index + 1]):
                index += 1
                continue
            answer, used = sentences[index + 1], 2
            if index + 2 < len(sentences) and is_plain[index + 2]:
                longer = f'{answer} {sentences[index + 2]}'
                if len(longer) <= _MOST_CHARACTERS:
                    answer, used = longer, 3
            yield sentences[index], answer
            index += used


def _examples(style: str, rows: Iterable[Mapping[str, Any]]) -> tuple[Example, ...]:
    """Returns the passages of stories, each prompt once, continued in a style."""
    apply = STYLES[style].apply
    found = {prompt: apply(answer) for prompt, answer in passages(row['story'] for row in rows)}
    return tuple(
        Example(
            item=f'story_{style}/{index}',
            prompt=prompt,
            answer=answer,
            reference=answer,
            problem_ids=(f'stories/{prompt}',),
            meta={'style': style},
        )
        for index, (prompt, answer) in enumerate(found.items())
    )


def _pools(rows: RowSource, protocol: str, *, style: str) -> Pools:
    """All passages of the two splits."""
    return Pools(
        train=_examples(style, rows.rows(DATASET, 'train')),
        eval=_examples(style, rows.rows(DATASET, 'test')),
    )


TASKS: dict[str, Task] = {
    f'story_{name}': Task(
        name=f'story_{name}',
        domain=style.kind,
        role='anchor',
        source='train stories/train; evaluation stories/test, sampled from the models',
        scorer='style',
        pools=functools.partial(_pools, style=name),
    )
    for name, style in STYLES.items()
}
